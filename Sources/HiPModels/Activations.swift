// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPTensors

/// Everything that a step writes besides keys and values, allocated once.
struct Activations {
  /// Rows of logits that are computed at a time.
  static let logitRows = 64

  private let hidden, normed, query, key, value, attended, gate, up: DeviceTensor
  /// The normed rows that logits are made of.
  let last: DeviceTensor
  let logits: DeviceTensor

  struct Views {
    let hidden, normed, query, key, value, attended, gate, up: DeviceTensor
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
    gate = try tensor(architecture.feedForwardSize)
    up = try tensor(architecture.feedForwardSize)
    last = try tensor(architecture.hiddenSize, rows: Self.logitRows)
    logits = try tensor(architecture.vocabularySize, rows: Self.logitRows)
  }

  /// The first `count` rows of each.
  func views(_ count: Int) -> Views {
    Views(
      hidden: hidden.rows(0..<count), normed: normed.rows(0..<count),
      query: query.rows(0..<count), key: key.rows(0..<count), value: value.rows(0..<count),
      attended: attended.rows(0..<count), gate: gate.rows(0..<count), up: up.rows(0..<count))
  }
}

extension DecoderArchitecture {
  /// Bytes of everything that a step writes besides keys and values.
  public var activationByteCount: Int {
    let perToken =
      2 * hiddenSize + 2 * (attention.heads + attention.kvHeads) * attention.headSize
      + 2 * feedForwardSize
    return 4
      * (perToken * DecoderModel.largestStep + (vocabularySize + hiddenSize) * Activations.logitRows)
  }
}
