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
  private let backend: any ComputeBackend

  /// An operator on a device.
  ///
  /// It and its device belong to one thread.
  public init(on backend: any ComputeBackend) { self.backend = backend }

  /// What an operation returns.
  public struct Result: Sendable {
    /// `[queries, heads, headSize]`.
    public let output: [Float]
    /// The key blocks that were read between sink and window; nil for policies that select none.
    public let selection: BlockSelection?
  }

  /// Attention of queries that stand at the last positions of the keys.
  ///
  /// Keys and values are kept in float32. Exceptions for layers play no role.
  /// - Parameters:
  ///   - queries: `[queries, heads, headSize]`, not rotated, not scaled.
  ///   - keys: `[keys, kvHeads, headSize]`, not rotated.
  ///   - values: `[keys, kvHeads, headSize]`.
  ///   - shape: the heads. The head size is a multiple of 16, at most 256.
  ///   - policy: what each query attends to.
  ///   - rotary: how positions turn queries and keys; nil turns nothing.
  ///   - trainedLength: what stretching, sharpening and the position schemes `self-extend` and `dynamic` go
  ///     by, 1 or more; by default none of them happens.
  ///   - given: blocks to read instead of selecting some, for a hierarchical policy.
  /// - Throws: `InfiniteHiPError` when sizes do not fit together.
  /// - Complexity: dense O(queries · keys); hierarchical O(queries · budget) plus its first stage,
  ///   O(queries · keys / chunk).
  public func run(
    queries: [Float], keys: [Float], values: [Float], shape: AttentionShape,
    policy: AttentionPolicy, rotary: RotaryEmbedding?, trainedLength: Int = .max,
    selection given: BlockSelection? = nil
  ) throws -> Result {
    let keyWidth = shape.kvHeads * shape.headSize
    let queryWidth = shape.heads * shape.headSize
    let keyCount = keys.count / keyWidth
    let queryCount = queries.count / queryWidth
    func refuse(_ message: String) -> InfiniteHiPError { InfiniteHiPError(.request, message) }
    guard shape.headSize % 16 == 0, shape.headSize <= 256 else {
      throw refuse("the head size is \(shape.headSize); it must be a multiple of 16, at most 256")
    }
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
    if let rotary, rotary.frequencies.count * 2 > shape.headSize {
      throw refuse("the rotary embedding turns more elements than a head has")
    }
    let sketches =
      if case .hierarchical(let pruning) = policy { pruning.sketches } else { [KeySketch]() }
    let layout = KVLayout(
      layerCount: 1, shape: shape, element: .float32, sketches: sketches)
    let pool = CachePool(backend: backend, layout: layout)
    let cache = SequenceCache(pool: pool)
    try cache.reserve(keyCount)
    let view = cache.view(layer: 0)
    backend.append(
      AppendCall(
        projections: (nil, try tensor(keys, keyCount), try tensor(values, keyCount)),
        order: .halves, rotaryDimensions: shape.headSize, into: view, start: 0))
    let queryTensor = try tensor(queries, queryCount)
    func input(_ rows: Range<Int>, _ rotary: RotaryEmbedding?) -> AttentionInput {
      AttentionInput(
        queries: queryTensor.rows(rows), shape: shape,
        start: keyCount - queryCount + rows.lowerBound, cache: view, rotary: rotary,
        trainedLength: trainedLength)
    }
    let output = try tensor([Float](repeating: 0, count: queries.count), queryCount)
    let state = backend.makeSelectionState()
    var selection: BlockSelection?
    func attend(_ reach: AttendCall.Reach) {
      backend.attend(AttendCall(input: input(0..<queryCount, rotary), reach: reach, output: output))
    }
    switch policy {
    case .dense: attend(.dense)
    case .stretched(let stretch):
      let start = keyCount - queryCount
      var first = 0
      while first < queryCount {
        let end = stretch.end(ofFactorAt: start + first, trainedLength: trainedLength) - start
        let rows = first..<max(first + 1, min(queryCount, end))
        let stretched = rotary?.stretched(
          stretch, position: start + first, trainedLength: trainedLength)
        backend.attend(
          AttendCall(input: input(rows, stretched), reach: .dense, output: output.rows(rows)))
        first = rows.upperBound
      }
    case .streaming(let window): attend(.streaming(window))
    case .heavyHitters(let hitters): attend(.heavyHitters(hitters, state))
    case .hierarchical(let pruning):
      if let given {
        try given.check(pruning, shape: shape, queryCount: queryCount, keyCount: keyCount)
        state.upload(given, shape: shape, pruning: pruning)
      } else {
        backend.select(
          SelectCall(
            input: input(0..<queryCount, rotary), pruning: pruning,
            gridLength: .fixed(keyCount), state: state))
      }
      selection = state.download(shape: shape, pruning: pruning)
      attend(.selected(pruning, state))
    }
    return Result(output: backend.read(output), selection: selection)
  }

  private func tensor(_ values: [Float], _ rows: Int) throws -> DeviceTensor {
    let tensor = DeviceTensor(
      buffer: try backend.makeBuffer(byteCount: values.count * 4), element: .float32, rows: rows,
      columns: values.count / rows)
    backend.write(values, to: tensor)
    return tensor
  }
}
