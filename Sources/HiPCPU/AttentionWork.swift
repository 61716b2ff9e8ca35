// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute

/// How an `AttendCall` falls into jobs.
struct AttentionWork {
  private let call: AttendCall
  /// Queries per job.
  private let queryBlock: Int
  /// Jobs per block of queries.
  let headSets: Int

  init(_ call: AttendCall) {
    self.call = call
    headSets =
      if case .selected(let pruning, _) = call.reach, pruning.sharing == .head {
        call.input.shape.heads
      } else {
        call.input.shape.kvHeads
      }
    queryBlock = if case .selected(let pruning, _) = call.reach { pruning.queryBlock } else { 64 }
  }

  var blockCount: Int { (call.input.queries.rows + queryBlock - 1) / queryBlock }

  var largestRowCount: Int {
    min(queryBlock, call.input.queries.rows) * (call.input.shape.heads / headSets)
  }

  /// One past the largest position that anything is rotated to.
  var positionLimit: Int {
    let end = call.input.start + call.input.queries.rows
    switch call.reach {
    case .dense: return end
    case .streaming(let reach): return min(end, reach.sink + reach.window + queryBlock)
    case .selected(let pruning, let state):
      if pruning.attentionPositions == .absolute { return end }
      let state = unsafeDowncast(state, to: CPUSelectionState.self)
      let selected = state.blocks.flatMap { $0.map(\.count) }.max() ?? 0
      return min(
        end, pruning.sink + pruning.window + selected * pruning.blockSize + queryBlock)
    }
  }

  /// Parts per job that keep all threads busy, with at least eight tiles in each.
  func partCount(jobs: Int, threads: Int) -> Int {
    guard jobs < 2 * threads, threads > 1 else { return 1 }
    let job = job(jobs - 1)
    let tiles = (job.far.count + job.near.count) / Int(HIP_PANEL)
    return max(1, min((2 * threads + jobs - 1) / jobs, tiles / 8))
  }

  /// The job of that number.
  func job(_ index: Int) -> AttentionJob {
    let (block, set) = index.quotientAndRemainder(dividingBy: headSets)
    let headsPerSet = call.input.shape.heads / headSets
    let first = block * queryBlock
    let queries = first..<min(first + queryBlock, call.input.queries.rows)
    let heads = set * headsPerSet..<(set + 1) * headsPerSet
    let start = call.input.start + first
    let end = call.input.start + queries.upperBound
    switch call.reach {
    case .dense:
      return AttentionJob(
        input: call.input, queries: queries, heads: heads, window: Int.max, near: 0..<end,
        far: .none)
    case .streaming(let reach):
      // Every row by itself: the query stands at the end of a cache of sinks and window.
      let sinks = (0..<Int32(max(0, min(reach.sink, end - reach.window))))
      return AttentionJob(
        input: call.input, queries: queries, heads: heads, window: reach.window,
        near: max(0, start - reach.window + 1)..<end,
        far: FarKeys(
          indices: Array(sinks), firstPosition: 0, shift: 0,
          queryLimit: reach.sink + reach.window - 1))
    case .selected(let pruning, let state):
      let state = unsafeDowncast(state, to: CPUSelectionState.self)
      let owners = pruning.sharing.ownerCount(call.input.shape)
      let owner = heads.lowerBound * owners / call.input.shape.heads
      let blocks = state.blocks.isEmpty ? [] : state.blocks[block][owner]
      return AttentionJob(
        input: call.input, queries: queries, heads: heads, window: pruning.window,
        near: max(0, start - pruning.window + 1)..<end,
        far: FarKeys(pruning, blocks: blocks, blockStart: start, end: end))
    }
  }
}

/// Keys before the window: sinks and selected blocks, and where they appear to stand.
struct FarKeys {
  /// Ascending.
  let indices: [Int32]
  /// Position of the key of rank t: max(0, t + firstPosition); nil: its index.
  let firstPosition: Int?
  /// What is subtracted from the query's position to go with that.
  let shift: Int
  /// The largest position of a query.
  let queryLimit: Int

  static let none = FarKeys(indices: [], firstPosition: nil, shift: 0, queryLimit: .max)

  init(indices: [Int32], firstPosition: Int?, shift: Int, queryLimit: Int) {
    self.indices = indices
    self.firstPosition = firstPosition
    self.shift = shift
    self.queryLimit = queryLimit
  }

  /// Sinks and blocks for queries at `blockStart` ..< `end`.
  init(_ pruning: HierarchicalPruning, blocks: [Int32], blockStart: Int, end: Int) {
    var indices: [Int32] = []
    let size = Int32(pruning.blockSize)
    // Sinks beyond the last key do not exist yet; they still count where keys are moved.
    indices += 0..<Int32(min(pruning.sink, end))
    for start in blocks { indices += start..<start + size }
    indices.removeAll { $0 >= end }
    self.indices = indices
    queryLimit = .max
    guard pruning.attentionPositions == .streaming else {
      firstPosition = nil
      shift = 0
      return
    }
    // The newest selected key lands directly before the window; everything is moved down by what
    // that leaves free below, so that angles stay small.
    let count = pruning.sink + blocks.count * pruning.blockSize
    let base = blockStart - pruning.window - count + 1
    shift = max(0, base)
    firstPosition = min(0, base)
  }

  var isEmpty: Bool { indices.isEmpty }
  var count: Int { indices.count }
}

/// One block of queries of a set of heads, with the keys that it reads.
struct AttentionJob {
  let input: AttentionInput
  /// Rows of the call's queries.
  let queries: Range<Int>
  let heads: Range<Int>
  /// How many last keys, the query's own included, a query finds among `near`.
  let window: Int
  /// Consecutive keys at their true positions.
  let near: Range<Int>
  let far: FarKeys

  var rowCount: Int { queries.count * heads.count }
  /// Positions of near keys and of queries towards them are counted from here.
  var nearBase: Int { window == .max ? 0 : near.lowerBound }

  func farPosition(_ position: Int) -> Int { min(position - far.shift, far.queryLimit) }

  /// Writes a tile's key indices and positions, and each row's range of columns; returns the
  /// number of keys.
  func fillTile(
    _ tile: Int, far isFar: Bool, indices: UnsafeMutablePointer<Int32>,
    positions: UnsafeMutablePointer<Int32>, first: UnsafeMutablePointer<Int32>,
    last: UnsafeMutablePointer<Int32>
  ) -> Int {
    let panel = Int(HIP_PANEL)
    let start = tile * panel
    let count = min(panel, (isFar ? far.count : near.count) - start)
    for column in 0..<count {
      if isFar {
        let index = far.indices[start + column]
        indices[column] = index
        positions[column] =
          far.firstPosition.map { Int32(max(0, start + column + $0)) } ?? index
      } else {
        indices[column] = Int32(near.lowerBound + start + column)
        positions[column] = Int32(near.lowerBound + start + column - nearBase)
      }
    }
    var end = 0
    for (row, query) in queries.enumerated() {
      let position = input.start + query
      if isFar {
        // Indices and positions ascend, so the end only moves on.
        while end < count, Int(indices[end]) + window <= position { end += 1 }
        first[row] = 0
        last[row] = Int32(end)
      } else {
        let begin = near.lowerBound + start
        let oldest = window == .max ? 0 : position - window + 1
        first[row] = Int32(max(0, min(count, oldest - begin)))
        last[row] = Int32(max(0, min(count, position + 1 - begin)))
      }
    }
    for head in 1..<max(1, heads.count) {
      (first + head * queries.count).update(from: first, count: queries.count)
      (last + head * queries.count).update(from: last, count: queries.count)
    }
    return count
  }
}
