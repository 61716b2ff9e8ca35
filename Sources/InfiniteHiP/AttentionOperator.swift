// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute
internal import HiPModels
internal import HiPTensors

/// One layer of attention on arrays: the library's main function without a model around it.
///
/// ```swift
/// let attention = AttentionOperator(on: try CPUBackend())
/// let result = try attention.run(
///   queries: q, keys: k, values: v, shape: AttentionShape(heads: 8, kvHeads: 2, headSize: 64),
///   policy: .hierarchical(.infiniteHiP), rotary: RotaryEmbedding(base: 500_000, dimensions: 64))
/// ```
public struct AttentionOperator {
  private let backend: any AttentionBackend
  private let type: KVType

  /// An operator on a device.
  ///
  /// It and its device belong to one thread.
  /// - Parameter type: how keys and values are kept; the fast kernels of GPUs want 16 bits, and round queries and
  ///   outputs to them.
  public init(on backend: any AttentionBackend, keeping type: KVType = .f32) {
    self.backend = backend
    self.type = type
  }

  /// What an operation returns.
  public struct Result: Sendable {
    /// `[queries, heads, headSize]`.
    public let output: [Float]
    /// The key blocks that were attended to between sink and window; nil for policies that select none.
    public let selection: BlockSelection?
  }

  /// Attention of queries that stand at the last positions of the keys.
  ///
  /// Exceptions for layers play no role.
  /// - Parameters:
  ///   - queries: `[queries, heads, headSize]`, not rotated, not scaled.
  ///   - keys: `[keys, kvHeads, headSize]`, not rotated.
  ///   - values: `[keys, kvHeads, headSize]`.
  ///   - shape: the heads. The head size is a multiple of 16, at most 256.
  ///   - policy: what each query attends to.
  ///   - rotary: how positions rotate queries and keys; nil rotates nothing.
  ///   - sinks: a logit per head that takes part in the softmax without a value; empty for none.
  ///   - trainedLength: what stretching and the position schemes `spread`, `self-extend` and `dynamic` go by, 1 or
  ///     more; by default none of them happens, and what would be spread stands side by side.
  ///   - given: blocks to attend to instead of selecting some, for a hierarchical policy.
  /// - Throws: `InfiniteHiPError` when sizes do not fit together; `ComputeError` when the device cannot.
  /// - Complexity: dense O(queries · keys); hierarchical O(queries · budget) plus its first stage,
  ///   O(queries · keys / chunk).
  public func run(
    queries: [Float], keys: [Float], values: [Float], shape: AttentionShape,
    policy: AttentionPolicy, rotary: RotaryEmbedding?, sinks: [Float] = [],
    trainedLength: Int = .max, selection given: BlockSelection? = nil
  ) throws -> Result {
    let keyWidth = shape.kvHeads * shape.headSize
    let queryWidth = shape.heads * shape.headSize
    let keyCount = keys.count / keyWidth
    let queryCount = queries.count / queryWidth
    func refuse(_ message: String) -> InfiniteHiPError { InfiniteHiPError(.request, message) }
    guard keys.count == keyCount * keyWidth, queries.count == queryCount * queryWidth,
      values.count == keys.count
    else { throw refuse("queries, keys and values do not fill whole heads, or differ in length") }
    guard queryCount >= 1, queryCount <= keyCount else {
      throw refuse(
        "there are \(queryCount) queries and \(keyCount) keys; queries are the last positions, so "
          + "there must be at least one, and no more than keys")
    }
    guard trainedLength >= 1 else {
      throw refuse("the trained length is \(trainedLength); it must be 1 or more")
    }
    guard sinks.isEmpty || sinks.count == shape.heads else {
      throw refuse("there are \(sinks.count) sinks for \(shape.heads) heads")
    }
    if let rotary, rotary.frequencies.count * 2 > shape.headSize {
      throw refuse("the rotary embedding rotates more elements than a head has")
    }
    let sketches =
      if case .hierarchical(let pruning) = policy { pruning.sketches } else { [KeySketch]() }
    try type.check(headSize: shape.headSize)
    let format = KVFormat(layerCount: 1, shape: shape, element: type.element, sketches: sketches)
    try backend.check(
      SequenceUse(policy: policy, format: format, length: keyCount, denseLength: 0))
    let cache = SequenceCache(
      store: backend.makeStore(format), blocks: SharedBlocks(capacity: .max))
    try cache.reserve(keyCount)
    let stored = SequenceRows(rows: 0..<keyCount, start: 0, table: cache.table)
    backend.append(
      AppendCall(
        layer: 0, projections: (nil, try tensor(keys, keyCount), try tensor(values, keyCount)),
        order: .halves, rotaryDimensions: shape.headSize, batch: [stored]))
    let sinkTensor = sinks.isEmpty ? nil : try tensor(sinks, 1)
    let queryTensor = try tensor(queries, queryCount)
    let output = try backend.makeTensor(
      .zeros, element: .float32, rows: queryCount, columns: queryWidth)
    let start = keyCount - queryCount
    func attend(
      _ reach: AttendCall.Reach, _ rows: Range<Int>, _ rotary: RotaryEmbedding?
    ) -> AttendCall.Item {
      AttendCall.Item(
        input: AttentionInput(
          queries: queryTensor.rows(rows), shape: shape, start: start + rows.lowerBound,
          table: cache.table, rotary: rotary, sinks: sinkTensor, trainedLength: trainedLength),
        reach: reach, output: output.rows(rows))
    }
    let all = 0..<queryCount
    var selection: BlockSelection?
    var items: [AttendCall.Item] = []
    switch policy {
    case .dense: items = [attend(.dense, all, rotary)]
    case .stretched(let stretch):
      var first = 0
      while first < queryCount {
        let end = stretch.end(ofFactorAt: start + first, trainedLength: trainedLength) - start
        let rows = first..<max(first + 1, min(queryCount, end))
        let stretched = rotary?.stretched(
          stretch, position: start + first, trainedLength: trainedLength)
        items.append(attend(.dense, rows, stretched))
        first = rows.upperBound
      }
    case .streaming(let window): items = [attend(.streaming(window), all, rotary)]
    case .heavyHitters(let hitters):
      items = [attend(.heavyHitters(hitters, cache.store.makeHeavyHitterState()), all, rotary)]
    case .hierarchical(let pruning):
      if let given {
        try given.check(pruning, shape: shape, queryCount: queryCount, keyCount: keyCount)
        cache.selection.upload(given, layer: 0, shape: shape, pruning: pruning)
      } else {
        let item = SelectCall.Item(
          input: attend(.dense, all, rotary).input, pruning: pruning,
          gridLength: .fixed(keyCount), state: cache.selection)
        backend.select(SelectCall(layer: 0, batch: [item]))
      }
      items = [attend(.selected(pruning, cache.selection), all, rotary)]
    }
    backend.attend(AttendCall(layer: 0, batch: items))
    let step = try backend.submit()
    if let fault = step.faults.first {
      throw refuse("the key or value at position \(fault.row) is not finite")
    }
    if case .hierarchical(let pruning) = policy {
      selection = cache.selection.download(layer: 0, shape: shape, pruning: pruning)
    }
    let rows = try backend.download(output)
    guard rows.allSatisfy(\.isFinite) else {
      throw refuse("the output is not finite: scores or sums of values exceed the range of float32")
    }
    return Result(output: rows, selection: selection)
  }

  private func tensor(_ values: [Float], _ rows: Int) throws -> DeviceTensor {
    try backend.makeTensor(
      .values(values), element: .float32, rows: rows, columns: values.count / rows)
  }
}
