// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPBench
import HiPCUDA
import HiPCompute
import HiPModels
import HiPTensors
import InfiniteHiP

/// What `bench attention` prints of a GPU.
struct CUDABenchReport: Encodable {
  let device: String
  let kvType: String
  let results: [CUDAAttentionBench.Result]
}

/// One layer of attention on a GPU: 32 query heads, 8 key-value heads of 128 elements, keys and values in 16 bits.
///
/// Times are those of replays of a graph, between events. Calls of one query take turns among several caches, with
/// queries and selections of their own, so that what one has loaded is gone from the GPU's cache when its turn comes
/// again.
struct CUDAAttentionBench {
  let backend: CUDABackend
  let type: KVType
  let shape = AttentionShape(heads: 32, kvHeads: 8, headSize: 128)

  /// What was measured.
  struct Result: Encodable {
    let name: String
    let policy: String
    let queries: Int
    /// Keys of each sequence.
    let keys: [Int]
    /// The median of one call.
    let microseconds: Double
    /// 10^6 bytes that have to be read or written at least.
    let megabytes: Double
    /// 10^9 multiplications and additions of the attention itself, and of exact scores.
    let gigaflops: Double
  }

  /// What a call does.
  private enum Part { case selectAndAttend, attend }

  /// A sequence, or several of different lengths.
  private final class Batch {
    let lengths: [Int]
    let caches: [SequenceCache]

    init(_ lengths: [Int], _ format: KVFormat, on backend: CUDABackend) throws {
      self.lengths = lengths
      let store = backend.makeStore(format)
      let blocks = SharedBlocks(capacity: .max)
      caches = lengths.map { _ in SequenceCache(store: store, blocks: blocks) }
      for (index, length) in lengths.enumerated() {
        // Prime, so that chunks of no two repetitions are alike.
        try caches[index].appendRandom(
          length, seed: UInt64(index + 1), period: 65_521, on: backend)
      }
    }
  }

  private var gpuPolicy: HierarchicalPruning { .infiniteHiPForGPUs }

  /// Our selection with blocks of 64 keys, as other block-sparse kernels have them.
  private func wideBlocks() throws -> HierarchicalPruning {
    try HierarchicalPruning(
      reach: StreamingWindow(sink: 256, window: 1024),
      stages: [PruningStage(chunkSize: 64, keep: 2048, queryStride: 64, estimate: .exact)],
      scoring: .init(sharing: .group, ranking: .share, positions: .infllm))
  }

  /// All rows, each handed to `show` when it is known.
  func run(_ show: (Result) -> Void) throws {
    let ours = AttentionChoice.gpu
    func measure(
      _ name: String, _ policy: AttentionPolicy, policyName: String, _ part: Part, queries: Int,
      _ batches: [Batch], variants: Int = 1, lists: ((Int) -> BlockSelection)? = nil
    ) throws {
      show(
        try self.measure(
          name, policy, policyName: policyName, part, queries: queries, batches,
          variants: variants, lists: lists))
    }
    let hierarchical = AttentionPolicy.hierarchical(gpuPolicy)
    func measureDecoding(_ name: String, _ batches: [Batch], _ parts: [Part]) throws {
      for part in parts {
        try measure(
          name + (part == .attend ? ", blocks reused" : ""), hierarchical, policyName: ours.name,
          part, queries: 1, batches, variants: 2 * batches.count)
      }
    }
    for (queries, keys) in [(32 << 10, 128 << 10), (8 << 10, 512 << 10), (8 << 10, 1 << 20)] {
      let one = [try batch([keys])]
      try measure(
        "prefill", hierarchical, policyName: ours.name, .selectAndAttend, queries: queries, one)
      guard keys == 128 << 10 else { continue }
      try measure(
        "block-sparse attention, 64 keys a block", .hierarchical(wideBlocks()),
        policyName: "random blocks", .attend, queries: queries, one
      ) { _ in randomLists(blockSize: 64, queries: queries, keys: keys) }
      try measure(
        "block-sparse attention, 16 keys a block", hierarchical, policyName: "random blocks",
        .attend, queries: queries, one
      ) { _ in randomLists(blockSize: 16, queries: queries, keys: keys) }
    }
    for (keys, count) in [(128 << 10, 4), (1 << 20, 4), (3 << 20, 2)] {
      let batches = try (0..<count).map { _ in try batch([keys]) }
      try measureDecoding("decode", batches, [.attend, .selectAndAttend])
      guard keys == 1 << 20 else { continue }
      try measure("decode", .dense, policyName: "dense", .attend, queries: 1, [batches[0]])
    }
    try measure(
      "prefill", .dense, policyName: "dense", .attend, queries: 8 << 10, [batch([8 << 10])])
    // From 4K to 256K, evenly in the logarithm.
    let lengths = (0..<16).map { Int(4096 * pow(64, Double($0) / 15)) }
    try measureDecoding("decode of 16 sequences", [batch(lengths)], [.attend, .selectAndAttend])
  }

  private func batch(_ lengths: [Int]) throws -> Batch {
    try Batch(
      lengths,
      KVFormat(
        layerCount: 1, shape: shape, element: type.element, sketches: gpuPolicy.sketches),
      on: backend)
  }

  /// Blocks for every 64 queries and key-value head that have nothing to do with those of others.
  private func randomLists(blockSize: Int, queries: Int, keys: Int) -> BlockSelection {
    var generator = SystemRandomNumberGenerator()
    let count = 2048 / blockSize
    let perHead = (0..<shape.kvHeads).map { _ in
      stride(from: 0, to: queries, by: 64).map { row in
        let end = (keys - queries + row - 1024) / blockSize
        var chosen: Set<Int32> = []
        while chosen.count < count {
          chosen.insert(
            Int32(Int.random(in: 256 / blockSize..<end, using: &generator) * blockSize))
        }
        return chosen.sorted()
      }
    }
    return BlockSelection(
      blockSize: blockSize, blocks: (0..<shape.heads).map { perHead[$0 / shape.groupSize] })
  }

  private func measure(
    _ name: String, _ policy: AttentionPolicy, policyName: String, _ part: Part, queries: Int,
    _ batches: [Batch], variants: Int, lists: ((Int) -> BlockSelection)?
  ) throws -> Result {
    let width = shape.heads * shape.headSize
    let lengths = batches[0].lengths
    let rows = queries * lengths.count
    let output = try backend.makeTensor(
      .zeros, element: type.element, rows: rows, columns: width)
    var calls: [() -> Void] = []
    for variant in 0..<variants {
      let tensor = try backend.makeRandomTensor(
        rows: rows, columns: width, element: type.element, seed: UInt64(1000 + variant))
      var selects: [SelectCall.Item] = []
      var attends: [AttendCall.Item] = []
      for (index, cache) in batches[variant % batches.count].caches.enumerated() {
        let range = index * queries..<(index + 1) * queries
        let input = AttentionInput(
          queries: tensor.rows(range), shape: shape, start: lengths[index] - queries,
          table: cache.table, rotary: nil, trainedLength: .max)
        var reach = AttendCall.Reach.dense
        if case .hierarchical(let whole) = policy {
          let pruning = queries == 1 ? whole.fine : whole
          let state = cache.store.makeSelectionState()
          if let lists {
            state.upload(lists(variant), layer: 0, shape: shape, pruning: pruning)
          } else {
            selects.append(.init(input: input, pruning: pruning, state: state))
          }
          reach = .selected(pruning, state)
        }
        attends.append(.init(input: input, reach: reach, output: output.rows(range)))
      }
      let select = SelectCall(layer: 0, batch: selects)
      let attend = AttendCall(layer: 0, batch: attends)
      if part == .attend, !selects.isEmpty { backend.select(select) }
      calls.append { [backend] in
        if part == .selectAndAttend { backend.select(select) }
        backend.attend(attend)
      }
    }
    let seconds = try backend.medianSeconds(of: calls)
    let work = lengths.map { floor(policy, part, queries: queries, keys: $0) }
    return Result(
      name: name, policy: policyName, queries: queries, keys: lengths,
      microseconds: seconds * 1e6, megabytes: work.reduce(0) { $0 + $1.bytes } / 1e6,
      gigaflops: work.reduce(0) { $0 + $1.operations } / 1e9)
  }

  /// Bytes and operations that a call needs at least.
  private func floor(
    _ policy: AttentionPolicy, _ part: Part, queries: Int, keys: Int
  ) -> (bytes: Double, operations: Double) {
    let row = Double(type.element.byteCount(of: shape.headSize))
    let (heads, kvHeads) = (Double(shape.heads), Double(shape.kvHeads))
    let perKey = 4 * heads * Double(shape.headSize)
    let io = 2 * Double(queries) * heads * row
    guard case .hierarchical(let whole) = policy else {
      let pairs = Double(queries) * (Double(keys) - Double(queries - 1) / 2)
      return (io + 2 * Double(keys) * kvHeads * row, perKey * pairs)
    }
    let pruning = queries == 1 ? whole.fine : whole
    let attended = Double(min(keys, pruning.budget))
    // Of a block of queries the keys are read at least once in all, not once for each block.
    var bytes = io + 2 * (queries == 1 ? attended : Double(keys)) * kvHeads * row
    var operations = perKey * Double(queries) * attended
    guard part == .selectAndAttend, pruning.stages.count == 2 else { return (bytes, operations) }
    let (scan, exact) = (pruning.stages[0], pruning.stages[1])
    let candidates = max(0, keys - pruning.sink - pruning.window)
    let kept = scan.keptChunks(of: candidates / scan.chunkSize) * scan.chunkSize
    let means = Double(candidates / scan.keysPerMean) * kvHeads * Double(shape.headSize + 2)
    bytes += means
    if queries == 1 {
      // Of those that are attended to, the scores have read the keys.
      bytes += Double(max(0, kept - exact.keep)) * kvHeads * row
    }
    operations +=
      2 * Double(queries / exact.queryStride) * heads * Double(shape.headSize) * Double(kept)
    return (bytes, operations)
  }
}
