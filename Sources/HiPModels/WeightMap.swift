// SPDX-License-Identifier: Apache-2.0

public import HiPModelFiles
public import HiPTensors

/// What a weight is for in a layer.
package enum LayerRole: Sendable, Hashable, CaseIterable {
  case attentionNorm, query, key, value, attentionOutput
  case queryBias, keyBias, valueBias, attentionOutputBias
  /// Of each head's query and key, or of all heads' together.
  case queryNorm, keyNorm
  /// A logit of each head in the softmax, without a value.
  case attentionSinks
  /// Of what the attention, or the feed-forward block, adds.
  case attentionPostNorm, feedForwardPostNorm
  case feedForwardNorm
  /// How much a token is drawn to each expert.
  case router, routerBias
  /// Of the one feed-forward branch, or of each expert.
  case gate, up, down, gateBias, upBias, downBias
}

/// What a weight outside of layers is for.
enum ModelRole: Sendable, Hashable, CaseIterable {
  case embedding, outputNorm
  /// Absent in files whose output matrix is the embedding.
  case output
}

/// Where a weight lies in a file.
struct WeightPlace: Sendable, Hashable, ExpressibleByStringLiteral {
  /// Its name, with `#` in place of the layer's number and `@` in place of the expert's.
  let name: String
  /// What of the tensor it is.
  var part = Part.whole
  /// Whether a model may lack it.
  var isOptional = false

  /// What of a tensor a weight is.
  enum Part: Sendable, Hashable {
    case whole
    /// Some rows of several weights that lie one behind the other.
    case rows(Range<Int>, of: Int)
    /// An expert's share of the rows of all experts.
    case share
  }

  init(_ name: String) { self.name = name }
  init(stringLiteral name: String) { self.name = name }

  /// The same, which a model may lack.
  var optional: WeightPlace {
    var copy = self
    copy.isOptional = true
    return copy
  }

  /// Each expert's share of it.
  var shared: WeightPlace {
    var copy = self
    copy.part = .share
    return copy
  }

  /// Some rows of it.
  func rows(_ rows: Range<Int>, of count: Int) -> WeightPlace {
    var copy = self
    copy.part = .rows(rows, of: count)
    return copy
  }

  func name(layer: Int, expert: Int = 0) -> String {
    name.replacing("#", with: "\(layer)").replacing("@", with: "\(expert)")
  }
}

/// Which weights a family has, and where they lie in a kind of file.
public struct WeightMap: Sendable {
  /// A family has the roles that stand here.
  var layer: [LayerRole: WeightPlace]
  let model: [ModelRole: String]
  /// Names that a file may hold without any use, as `layer` has them, or their beginnings before a `*`.
  var ignorable: Set<String>
  /// What is added to the weights of norms: 1 where a file holds what they differ by from that.
  package var normOffset: Float = 0
  /// Whether queries and keys are normalised over all heads together, and not each head by itself.
  package var normalisesHeadsTogether = false

  /// Where a weight lies, for whoever computes a model in another way; nil where the family has no such role.
  package func place(
    _ role: LayerRole, layer: Int, expert: Int
  ) -> (name: String, rows: (first: Int, count: Int)?, isShare: Bool, isOptional: Bool)? {
    guard let place = self.layer[role] else { return nil }
    var rows: (first: Int, count: Int)?
    if case .rows(let range, let count) = place.part { rows = (range.lowerBound, count) }
    return (
      place.name(layer: layer, expert: expert), rows, place.part == .share, place.isOptional
    )
  }

  /// The embedding's name.
  package var embeddingName: String { model[.embedding] ?? "" }
  /// The name of the last norm.
  package var outputNormName: String { model[.outputNorm] ?? "" }

  /// Whether the embedding is the output matrix, too; nil: where the file has no other one.
  var isTied: Bool?

  /// Throws when a file holds a weight that no layer takes: the model would be computed without it.
  public func check(
    _ source: any WeightSource, _ architecture: DecoderArchitecture
  ) throws(FileError) {
    let beginnings = ignorable.filter { $0.hasSuffix("*") }.map { $0.dropLast() }
    var names = Set(model.values)
    for (index, layer) in architecture.layers.enumerated() {
      names.formUnion(ignorable.map { $0.replacing("#", with: "\(index)") })
      for place in self.layer.values {
        let experts = place.name.contains("@") ? layer.feedForward.experts?.count ?? 0 : 1
        names.formUnion((0..<experts).map { place.name(layer: index, expert: $0) })
      }
    }
    let stranger = source.names.first { name in
      !names.contains(name) && !beginnings.contains { name.hasPrefix($0) }
    }
    guard let stranger else {
      // A bias is there in every layer or in none.
      for place in layer.values where place.isOptional && !source.names.isEmpty {
        let isThere = architecture.layers.indices.map {
          source.hasWeight(named: place.name(layer: $0))
        }
        guard let first = isThere.firstIndex(of: false), isThere.contains(true) else { continue }
        throw FileError(
          path: source.path,
          problem: "the tensor \"\(place.name(layer: first))\" is missing, which other layers have")
      }
      return
    }
    throw FileError(
      .unsupported, path: source.path,
      problem:
        "the tensor \"\(stranger)\" belongs to no part of a model of the architecture "
        + "\"\(architecture.name)\" with \(architecture.layerCount) layers that is known here; computed "
        + "without it, the model would be another one")
  }
}
