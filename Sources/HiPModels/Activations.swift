// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPTensors

/// Everything that a step writes besides keys and values, allocated once.
struct Activations {
  /// Rows of logits that are computed at a time.
  static let logitRows = 64

  private let hidden, normed, query, key, value, attended: DeviceTensor
  /// What a block adds, where that is normalised first.
  private let branch: DeviceTensor?
  private let workspace: FeedForwardCall.Workspace
  /// The normed rows that logits are made of.
  let last: DeviceTensor
  let logits: DeviceTensor

  struct Views {
    let hidden, normed, query, key, value, attended: DeviceTensor
    let branch: DeviceTensor?
  }

  init(_ architecture: DecoderArchitecture, _ backend: any ComputeBackend) throws(ComputeError) {
    let shape = architecture.attention
    func tensor(_ columns: Int, rows: Int = DecoderModel.largestStep) throws(ComputeError)
      -> DeviceTensor
    {
      try backend.makeTensor(.zeros, element: .float32, rows: rows, columns: columns)
    }
    hidden = try tensor(architecture.hiddenSize)
    normed = try tensor(architecture.hiddenSize)
    query = try tensor(shape.heads * shape.headSize)
    key = try tensor(shape.kvHeads * shape.headSize)
    value = try tensor(shape.kvHeads * shape.headSize)
    attended = try tensor(shape.heads * shape.headSize)
    branch = architecture.addsNormed ? try tensor(architecture.hiddenSize) : nil
    var experts: FeedForwardCall.ExpertWorkspace?
    if let count = architecture.expertCount {
      experts = .init(
        router: try tensor(count), gathered: try tensor(architecture.hiddenSize),
        products: try tensor(architecture.hiddenSize))
    }
    workspace = .init(
      gate: try tensor(architecture.feedForwardSize), up: try tensor(architecture.feedForwardSize),
      experts: experts)
    last = try tensor(architecture.hiddenSize, rows: Self.logitRows)
    logits = try tensor(architecture.vocabularySize, rows: Self.logitRows)
  }

  /// The first `count` rows of each.
  func views(_ count: Int) -> Views {
    Views(
      hidden: hidden.rows(0..<count), normed: normed.rows(0..<count),
      query: query.rows(0..<count), key: key.rows(0..<count), value: value.rows(0..<count),
      attended: attended.rows(0..<count), branch: branch?.rows(0..<count))
  }

  /// Memory for a feed-forward block of `size` elements.
  func workspace(size: Int) -> FeedForwardCall.Workspace {
    guard size != workspace.gate.columns else { return workspace }
    func narrower(_ tensor: DeviceTensor) -> DeviceTensor {
      DeviceTensor(
        buffer: tensor.buffer, offset: tensor.offset, element: tensor.element, rows: tensor.rows,
        columns: size)
    }
    return .init(
      gate: narrower(workspace.gate), up: narrower(workspace.up), experts: workspace.experts)
  }
}

extension DecoderArchitecture {
  /// The most experts that a layer has; nil where none has any.
  var expertCount: Int? { layers.compactMap { $0.feedForward.experts?.count }.max() }

  /// Bytes of everything that a step writes besides keys and values.
  public var activationByteCount: Int {
    let experts = expertCount.map { $0 + 2 * hiddenSize } ?? 0
    let perToken =
      (addsNormed ? 3 : 2) * hiddenSize
      + 2 * (attention.heads + attention.kvHeads) * attention.headSize + 2 * feedForwardSize
      + experts
    return 4
      * (perToken * DecoderModel.largestStep + (vocabularySize + hiddenSize) * Activations.logitRows)
  }
}
