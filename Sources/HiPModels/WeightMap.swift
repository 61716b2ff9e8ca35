// SPDX-License-Identifier: Apache-2.0

public import HiPModelFiles
public import HiPTensors

/// What a weight is for in a layer.
enum LayerRole: Sendable, Hashable, CaseIterable {
  case attentionNorm, query, key, value, attentionOutput
  case queryBias, keyBias, valueBias, attentionOutputBias
  /// Of each head's query and key.
  case queryNorm, keyNorm
  case feedForwardNorm, gate, up, down
}

/// What a weight outside of layers is for.
enum ModelRole: Sendable, Hashable, CaseIterable {
  case embedding, outputNorm
  /// Absent in files whose output matrix is the embedding.
  case output
  /// Divisors of the rotation's frequencies.
  case rotaryFactors
}

/// Which names a family's weights have in a kind of file.
public struct WeightMap: Sendable {
  /// With `#` in place of the layer's number.
  let layer: [LayerRole: String]
  let model: [ModelRole: String]
  /// What a file may hold without any use, as `layer` has it.
  let ignorable: Set<String>

  func name(_ role: LayerRole, _ index: Int) -> String? {
    layer[role].map { $0.replacing("#", with: "\(index)") }
  }

  /// Throws when a file holds a weight that none of `layerCount` layers takes: the model would be computed
  /// without it.
  public func check(_ source: some WeightSource, layerCount: Int) throws(FileError) {
    let known = Set(layer.values).union(ignorable)
    var names = Set(model.values)
    for index in 0..<layerCount {
      names.formUnion(known.map { $0.replacing("#", with: "\(index)") })
    }
    guard let stranger = source.names.first(where: { !names.contains($0) }) else { return }
    throw FileError(
      .unsupported, path: source.path,
      problem:
        "the tensor \"\(stranger)\" belongs to no part of a model that is known here; computed "
        + "without it, the model would be another one. Use a model of a supported architecture")
  }
}
