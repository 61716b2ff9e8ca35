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
    let query, key, value, attentionOutput: DeviceTensor
    let queryBias, keyBias, valueBias, attentionOutputBias: DeviceTensor?
    let queryNorm, keyNorm, sinks: DeviceTensor?
    let attentionNorm, attentionPostNorm: DeviceTensor?
    let feedForwardNorm, feedForwardPostNorm: DeviceTensor?
    let feedForward: FeedForwardCall.Weights
  }

  init(_ plan: ModelPlan, on backend: any ComputeBackend, rounding format: WeightFormat?) throws {
    let (architecture, map, source) = (plan.architecture, plan.weightMap, plan.weights)
    try map.check(source, architecture)
    let reader = WeightReader(map: map, source: source, backend: backend, format: format)
    let hidden = architecture.hiddenSize
    embedding = try reader.matrix(.embedding, architecture.vocabularySize, hidden)
    outputNorm = try reader.norm(map.model[.outputNorm] ?? "", hidden)
    let isTied = map.isTied ?? !source.hasWeight(named: map.model[.output] ?? "")
    output =
      isTied ? embedding : try reader.matrix(.output, architecture.vocabularySize, hidden)
    layers = try architecture.layers.enumerated().map { index, plan in
      try Layer(plan, architecture, reader.layer(index, plan))
    }
  }

  /// Bytes of all matrices.
  var byteCount: Int {
    let own = layers.flatMap { layer in
      [layer.query, layer.key, layer.value, layer.attentionOutput] + layer.feedForward.all
    }
    let isTied = embedding.buffer === output.buffer
    return (own + [embedding] + (isTied ? [] : [output])).reduce(0) {
      $0 + $1.rows * $1.rowByteCount
    }
  }

  /// Every matrix that a token is multiplied with; the output's is the last.
  var matrices: [DeviceTensor] {
    layers.flatMap { layer in
      [layer.query, layer.key, layer.value, layer.attentionOutput] + layer.feedForward.matrices
    } + [output]
  }
}

extension FeedForwardCall.Weights {
  /// Every matrix.
  fileprivate var all: [DeviceTensor] {
    switch self {
    case .dense(let branch): [branch.gate, branch.up, branch.down]
    case .experts(let experts):
      [experts.router] + experts.branches.flatMap { [$0.gate, $0.up, $0.down] }
    }
  }

  /// Every matrix that a token is multiplied with.
  fileprivate var matrices: [DeviceTensor] {
    switch self {
    case .dense(let branch): [branch.gate, branch.up, branch.down]
    case .experts(let experts):
      // Which ones a token takes is not known before; experts of a layer are of one size.
      [experts.router]
        + experts.branches.prefix(experts.routing.used).flatMap { [$0.gate, $0.up, $0.down] }
    }
  }
}

extension DecoderWeights.Layer {
  init(_ plan: LayerPlan, _ architecture: DecoderArchitecture, _ reader: LayerReader) throws {
    let shape = architecture.attention
    let hidden = architecture.hiddenSize
    let (queries, keys) = (shape.heads * shape.headSize, shape.kvHeads * shape.headSize)
    query = try reader.matrix(.query, queries, hidden)
    key = try reader.matrix(.key, keys, hidden)
    value = try reader.matrix(.value, keys, hidden)
    attentionOutput = try reader.matrix(.attentionOutput, hidden, queries)
    queryBias = try reader.vector(.queryBias, queries)
    keyBias = try reader.vector(.keyBias, keys)
    valueBias = try reader.vector(.valueBias, keys)
    attentionOutputBias = try reader.vector(.attentionOutputBias, hidden)
    let isTogether = reader.map.normalisesHeadsTogether
    queryNorm = try reader.norm(.queryNorm, isTogether ? queries : shape.headSize)
    keyNorm = try reader.norm(.keyNorm, isTogether ? keys : shape.headSize)
    sinks = try reader.vector(.attentionSinks, shape.heads)
    attentionNorm = try reader.norm(.attentionNorm, hidden)
    attentionPostNorm = try reader.norm(.attentionPostNorm, hidden)
    feedForwardNorm = try reader.norm(.feedForwardNorm, hidden)
    feedForwardPostNorm = try reader.norm(.feedForwardPostNorm, hidden)
    let size = plan.feedForward.size
    func branch(_ expert: Int) throws -> FeedForwardCall.Branch {
      FeedForwardCall.Branch(
        gate: try reader.matrix(.gate, size, hidden, expert),
        up: try reader.matrix(.up, size, hidden, expert),
        down: try reader.matrix(.down, hidden, size, expert),
        gateBias: try reader.vector(.gateBias, size, expert),
        upBias: try reader.vector(.upBias, size, expert),
        downBias: try reader.vector(.downBias, hidden, expert))
    }
    if let experts = plan.feedForward.experts {
      feedForward = .experts(
        .init(
          router: try reader.matrix(.router, experts.count, hidden),
          routerBias: try reader.vector(.routerBias, experts.count),
          branches: try (0..<experts.count).map(branch), routing: experts.routing))
    } else {
      feedForward = .dense(try branch(0))
    }
  }
}

/// Places weights of a source on a device.
private struct WeightReader {
  let map: WeightMap
  let source: any WeightSource
  let backend: any ComputeBackend
  let format: WeightFormat?

  func layer(_ index: Int, _ plan: LayerPlan) -> LayerReader {
    LayerReader(
      map: map, source: source, backend: backend, format: format, index: index,
      expertCount: plan.feedForward.experts?.count ?? 1)
  }

  func matrix(_ role: ModelRole, _ rows: Int, _ columns: Int) throws -> DeviceTensor {
    try source.weight(named: map.model[role] ?? "", rows: rows, columns: columns)
      .tensor(on: backend, format)
  }

  func norm(_ name: String, _ size: Int) throws -> DeviceTensor {
    let values = try source.floats(named: name, count: size).map { $0 + map.normOffset }
    return try backend.makeTensor(.values(values), element: .float32, rows: 1, columns: size)
  }
}

/// Places weights of one layer on a device.
struct LayerReader {
  let map: WeightMap
  let source: any WeightSource
  let backend: any ComputeBackend
  let format: WeightFormat?
  let index: Int
  let expertCount: Int

  /// Nil where the family has no such weight, or the file lacks one that it may lack.
  private func weight(
    _ role: LayerRole, _ rows: Int, _ columns: Int, _ expert: Int
  ) throws -> Weight? {
    guard let place = map.layer[role] else { return nil }
    let name = place.name(layer: index, expert: expert)
    if place.isOptional, !source.hasWeight(named: name) { return nil }
    switch place.part {
    case .whole: return try source.weight(named: name, rows: rows, columns: columns)
    case .rows(let range, let count):
      return try source.weight(named: name, rows: count, columns: columns, part: range)
    case .share:
      return try source.weight(
        named: name, rows: rows * expertCount, columns: columns,
        part: expert * rows..<(expert + 1) * rows)
    }
  }

  func matrix(
    _ role: LayerRole, _ rows: Int, _ columns: Int, _ expert: Int = 0
  ) throws -> DeviceTensor {
    guard let weight = try weight(role, rows, columns, expert) else {
      preconditionFailure("the map has no \(role)")
    }
    return try weight.tensor(on: backend, format)
  }

  func vector(_ role: LayerRole, _ size: Int, _ expert: Int = 0) throws -> DeviceTensor? {
    try values(role, size, expert).map { try tensor($0) }
  }

  func norm(_ role: LayerRole, _ size: Int) throws -> DeviceTensor? {
    try values(role, size, 0).map { try tensor($0.map { $0 + map.normOffset }) }
  }

  private func values(_ role: LayerRole, _ size: Int, _ expert: Int) throws -> [Float]? {
    guard let weight = try weight(role, 1, size, expert) else { return nil }
    guard let floats = weight.floats else {
      throw FileError(
        .unsupported, path: source.path,
        problem:
          "the tensor \"\(weight.name)\" is stored as \(weight.element.rawValue); norms and biases are "
          + "expected as F32, F16 or BF16")
    }
    return floats
  }

  private func tensor(_ values: [Float]) throws -> DeviceTensor {
    try backend.makeTensor(.values(values), element: .float32, rows: 1, columns: values.count)
  }
}

extension Weight {
  /// Its elements on a device.
  fileprivate func tensor(
    on backend: any ComputeBackend, _ format: WeightFormat?
  ) throws -> DeviceTensor {
    let element = format?.element(of: self) ?? element
    return try backend.makeTensor(
      element == self.element ? .mapped(bytes) : .converted(bytes, from: self.element),
      element: element, rows: rows, columns: columns)
  }
}
