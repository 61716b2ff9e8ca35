// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

/// A decoder's weights on a device, by their role.
struct DecoderWeights {
  let embedding, outputNorm, output: DeviceTensor
  let layers: [Layer]

  struct Layer {
    let attentionNorm, query, key, value, attentionOutput: DeviceTensor
    let queryBias, keyBias, valueBias, attentionOutputBias: DeviceTensor?
    let queryNorm, keyNorm: DeviceTensor?
    let feedForwardNorm, gate, up, down: DeviceTensor
  }

  init(
    _ architecture: DecoderArchitecture, _ map: WeightMap, from source: some WeightSource,
    on backend: any ComputeBackend
  ) throws {
    try map.check(source, layerCount: architecture.layerCount)
    let shape = architecture.attention
    let hidden = architecture.hiddenSize
    let (queries, keys) = (shape.heads * shape.headSize, shape.kvHeads * shape.headSize)
    func matrix(_ name: String, _ rows: Int, _ columns: Int) throws -> DeviceTensor {
      let weight = try source.weight(named: name, rows: rows, columns: columns)
      return try backend.makeTensor(
        .mapped(weight.bytes), element: weight.element, rows: rows, columns: columns)
    }
    func vector(_ name: String, _ size: Int) throws -> DeviceTensor {
      let tensor = try matrix(name, 1, size)
      guard tensor.element == .float32 else {
        throw FileError(
          .unsupported, path: source.path,
          problem:
            "the tensor \"\(name)\" is stored as \(tensor.element.rawValue); norms and biases are "
            + "expected as F32")
      }
      return tensor
    }
    func name(_ role: ModelRole) throws -> String {
      guard let name = map.model[role] else { preconditionFailure("the map has no \(role)") }
      return name
    }
    embedding = try matrix(name(.embedding), architecture.vocabularySize, hidden)
    outputNorm = try vector(name(.outputNorm), hidden)
    output =
      try source.hasWeight(named: name(.output))
      ? matrix(name(.output), architecture.vocabularySize, hidden) : embedding
    layers = try (0..<architecture.layerCount).map { index in
      func name(_ role: LayerRole) -> String {
        guard let name = map.name(role, index) else {
          preconditionFailure("the map has no \(role)")
        }
        return name
      }
      func optional(_ role: LayerRole, _ size: Int) throws -> DeviceTensor? {
        guard let name = map.name(role, index), source.hasWeight(named: name) else { return nil }
        return try vector(name, size)
      }
      return Layer(
        attentionNorm: try vector(name(.attentionNorm), hidden),
        query: try matrix(name(.query), queries, hidden),
        key: try matrix(name(.key), keys, hidden),
        value: try matrix(name(.value), keys, hidden),
        attentionOutput: try matrix(name(.attentionOutput), hidden, queries),
        queryBias: try optional(.queryBias, queries), keyBias: try optional(.keyBias, keys),
        valueBias: try optional(.valueBias, keys),
        attentionOutputBias: try optional(.attentionOutputBias, hidden),
        queryNorm: try optional(.queryNorm, shape.headSize),
        keyNorm: try optional(.keyNorm, shape.headSize),
        feedForwardNorm: try vector(name(.feedForwardNorm), hidden),
        gate: try matrix(name(.gate), architecture.feedForwardSize, hidden),
        up: try matrix(name(.up), architecture.feedForwardSize, hidden),
        down: try matrix(name(.down), hidden, architecture.feedForwardSize))
    }
  }

  /// Every matrix that a token is multiplied with; the output's is the last.
  var matrices: [DeviceTensor] {
    layers.flatMap {
      [$0.query, $0.key, $0.value, $0.attentionOutput, $0.gate, $0.up, $0.down]
    } + [output]
  }
}
