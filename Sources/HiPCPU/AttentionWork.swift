// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute

/// How an item of an `AttendCall` falls into jobs.
struct AttentionWork {
  let layer: Int
  let output: DeviceTensor
  /// What all jobs rotate by.
  let rotations: Rotations
  private let item: AttendCall.Item
  /// Queries per job.
  private let queryBlock: Int
  /// Jobs per block of queries.
  let headSets: Int

  init(_ item: AttendCall.Item, layer: Int, on backend: CPUBackend) {
    self.item = item
    self.layer = layer
    output = item.output
    headSets =
      if case .selected(let pruning, _) = item.reach, pruning.sharing == .head {
        item.input.shape.heads
      } else {
        item.input.shape.kvHeads
      }
    let queryBlock =
      switch item.reach {
      case .selected(let pruning, _): pruning.queryBlock
      case .heavyHitters: HeavyHitters.queryBlock
      case .dense, .streaming: 64
      }
    self.queryBlock = queryBlock
    rotations = backend.rotations(
      item.input.rotary, count: Self.positionLimit(item, layer: layer, queryBlock))
  }

  var blockCount: Int { (item.input.queries.rows + queryBlock - 1) / queryBlock }
  var jobCount: Int { blockCount * headSets }

  func rowCount(ofJob index: Int) -> Int {
    let first = index / headSets * queryBlock
    return min(queryBlock, item.input.queries.rows - first) * heads(ofJob: index).count
  }

  /// Heads that reach the same keys.
  func heads(ofJob index: Int) -> Range<Int> {
    let count = item.input.shape.heads / headSets
    let set = index % headSets
    return set * count..<(set + 1) * count
  }

  /// One past the largest position that anything is rotated to.
  private static func positionLimit(
    _ item: AttendCall.Item, layer: Int, _ queryBlock: Int
  ) -> Int {
    let end = item.input.start + item.input.queries.rows
    switch item.reach {
    case .dense: return end
    case .streaming(let reach):
      // Counted before it is compared: a window may be as long as numbers go.
      let (budget, overflow) = reach.window.addingReportingOverflow(reach.sink + queryBlock)
      return overflow ? end : min(end, budget)
    case .selected(let pruning, let state):
      switch pruning.attentionPositions {
      case .absolute, .selfExtend, .dynamic: return end
      case .streaming, .infllm, .relative, .chunkIndexed, .spread: break
      }
      let selected = state.onCPU.layers[layer].blocks.flatMap { $0.map(\.count) }.max() ?? 0
      let budget = pruning.sink + pruning.window + selected * pruning.blockSize + queryBlock
      return min(
        end,
        pruning.attentionPositions == .spread ? max(budget, item.input.trainedLength) : budget)
    case .heavyHitters(let hitters, let state):
      let kept = state.onCPU.kept[layer].map(\.count).max() ?? item.input.start
      return min(end, max(kept, hitters.budget + queryBlock) + queryBlock)
    }
  }

  /// The job of that number.
  func job(_ index: Int) -> AttentionJob {
    let (block, set) = index.quotientAndRemainder(dividingBy: headSets)
    let input = item.input
    let first = block * queryBlock
    let queries = first..<min(first + queryBlock, input.queries.rows)
    let heads = heads(ofJob: index)
    let start = input.start + first
    let end = input.start + queries.upperBound
    switch item.reach {
    case .dense:
      return AttentionJob(
        layer: layer, input: input, queries: queries, heads: heads, window: .max, near: 0..<end,
        far: .none)
    case .streaming(let reach):
      // Every row by itself: the query stands at the end of a cache of sinks and window.
      let sinks = (0..<Int32(max(0, min(reach.sink, end - reach.window))))
      return AttentionJob(
        layer: layer, input: input, queries: queries, heads: heads, window: reach.window,
        near: max(0, start - reach.window + 1)..<end,
        far: FarKeys(
          indices: Array(sinks), positions: Array(sinks), window: reach.window,
          queryLimit: reach.sink + reach.window - 1))
    case .selected(let pruning, let state):
      let selection = state.onCPU.layers[layer]
      let owners = pruning.sharing.ownerCount(input.shape)
      let owner = heads.lowerBound * owners / input.shape.heads
      let blocks = selection.blocks.isEmpty ? [] : selection.blocks[block][owner]
      return AttentionJob(
        layer: layer, input: input, queries: queries, heads: heads, window: pruning.window,
        near: max(0, start - pruning.window + 1)..<end,
        far: FarKeys(
          pruning, blocks: blocks, queries: start..<end, trainedLength: input.trainedLength))
    case .heavyHitters(_, let state):
      let kept = state.onCPU.kept[layer][set].map(\.key)
      return AttentionJob(
        layer: layer, input: input, queries: queries, heads: heads, window: .max, near: start..<end,
        far: FarKeys(
          indices: kept, positions: Array(0..<Int32(kept.count)), window: 0,
          shift: start - kept.count))
    }
  }
}

/// Keys before the window: sinks and selected blocks, and where they appear to stand.
struct FarKeys {
  /// Ascending.
  let indices: [Int32]
  /// Position of each key, as small as can be.
  let positions: [Int32]
  /// What a quarter of each key rotates by instead; nil: nothing.
  var quarters: [Int32]?
  /// A key takes part in rows that are this far behind it.
  let window: Int
  /// What was subtracted from all positions, and is from the query's.
  var shift = 0
  /// The largest position of a query.
  var queryLimit = Int.max

  static let none = FarKeys(indices: [], positions: [], window: 0)

  init(
    indices: [Int32], positions: [Int32], window: Int, shift: Int = 0, queryLimit: Int = .max
  ) {
    self.indices = indices
    self.positions = positions
    self.window = window
    self.shift = shift
    self.queryLimit = queryLimit
  }

  /// Sinks and blocks for queries at the positions `queries`.
  init(_ pruning: HierarchicalPruning, blocks: [Int32], queries: Range<Int>, trainedLength: Int) {
    window = pruning.window
    let size = pruning.blockSize
    let scheme = pruning.attentionPositions
    let border = queries.lowerBound - pruning.window
    // Sinks beyond the last key do not exist yet; they still count where keys are moved.
    let sinks = min(pruning.sink, queries.upperBound)
    let count = pruning.sink + blocks.count * size
    let spread =
      scheme == .spread
      ? pruning.spreadPositions(
        blocks: blocks.map(Int.init), queriesFrom: queries.lowerBound, trainedLength: trainedLength)
      : []
    var indices: [Int32] = []
    var places: [Int32] = []
    var quarters: [Int32] = []
    indices.reserveCapacity(sinks + blocks.count * size)
    places.reserveCapacity(indices.capacity)
    func add(_ key: Int, rank: Int, block: Int) {
      let streamed = max(0, rank + border - count + 1)
      let place =
        switch scheme {
        case .streaming: streamed
        case .infllm: max(0, border)
        case .relative: max(0, border - 1)
        case .chunkIndexed: max(0, border - blocks.count + 1 + block)
        case .spread:
          block < 0 ? spread[0] + rank : spread[block + 1] + (rank - pruning.sink) % size
        case .absolute, .selfExtend, .dynamic:
          scheme.position(ofKey: key, queries: queries, trainedLength: trainedLength)
        }
      indices.append(Int32(key))
      places.append(Int32(scheme == .dynamic ? streamed : place))
      if scheme == .dynamic { quarters.append(Int32(place)) }
    }
    for key in 0..<sinks { add(key, rank: key, block: -1) }
    for (block, start) in blocks.enumerated() {
      for offset in 0..<size where Int(start) + offset < queries.upperBound {
        add(Int(start) + offset, rank: pruning.sink + block * size + offset, block: block)
      }
    }
    // Moved down by what is free below, so that angles stay small.
    switch scheme {
    case .streaming, .infllm, .relative, .chunkIndexed, .spread:
      let lowest = places.first ?? 0
      shift = Int(lowest)
      places = places.map { $0 - lowest }
    case .absolute, .selfExtend, .dynamic: break
    }
    self.indices = indices
    positions = places
    if scheme == .dynamic { self.quarters = quarters }
  }

  var isEmpty: Bool { indices.isEmpty }
  var count: Int { indices.count }
}

/// One block of queries of a set of heads, with the keys that it attends to.
struct AttentionJob {
  let layer: Int
  let input: AttentionInput
  /// Rows of the item's queries.
  let queries: Range<Int>
  /// Of one set, or some of them.
  var heads: Range<Int>
  /// How many last keys, the query's own included, a query finds among `near`.
  let window: Int
  /// Consecutive keys at their true positions.
  let near: Range<Int>
  let far: FarKeys

  var rowCount: Int { queries.count * heads.count }
  var headSize: Int { input.shape.headSize }
  var kvHead: Int { heads.lowerBound / input.shape.groupSize }

  /// Where a query appears towards far or near keys; positions of near ones are counted from the first of them.
  func position(_ query: Int, isFar: Bool) -> Int {
    isFar ? min(query - far.shift, far.queryLimit) : query - near.lowerBound
  }

  private func tiles(_ keys: Int) -> Int { (keys + Int(IHP_PANEL) - 1) / Int(IHP_PANEL) }
  /// Tiles of up to 64 keys: far ones first.
  var tileCount: Int { tiles(far.count) + tiles(near.count) }

  /// Parts that the keys are shared out in: at least eight tiles in each.
  var partCount: Int { max(1, min(16, tileCount / 8)) }

  /// A tile's place among the far or the near keys.
  func tile(_ index: Int) -> (isFar: Bool, start: Int, count: Int) {
    let isFar = index < tiles(far.count)
    let start = (isFar ? index : index - tiles(far.count)) * Int(IHP_PANEL)
    return (isFar, start, min(Int(IHP_PANEL), (isFar ? far.count : near.count) - start))
  }

  /// The tiles of one of several parts.
  func part(_ part: Int, of parts: Int) -> Range<Int> {
    tileCount * part / parts..<tileCount * (part + 1) / parts
  }

  /// Holds the pages of some tiles.
  func hold(_ tiles: Range<Int>, _ kinds: [CPUBlockTable.Kind], _ held: HeldPages) {
    var indices: [Int32] = []
    let size = input.blocks.store.format.blockSize
    for index in tiles {
      let (isFar, start, count) = tile(index)
      if isFar {
        indices += far.indices[start..<start + count]
      } else {
        let first = near.lowerBound + start
        indices += stride(from: first, to: first + count, by: size).map { Int32($0) }
        indices.append(Int32(first + count - 1))
      }
    }
    held.hold(indices, indices.count, kinds, of: input.blocks, layer: layer, kvHead: kvHead)
  }

  /// Writes which keys a tile has.
  func fillKeys(_ index: Int, _ indices: UnsafeMutablePointer<Int32>) {
    let (isFar, start, count) = tile(index)
    fill(indices, isFar ? far.indices : nil, start, count, from: near.lowerBound + start)
  }

  /// A part of a list, or, without one, consecutive numbers.
  private func fill(
    _ numbers: UnsafeMutablePointer<Int32>, _ list: [Int32]?, _ start: Int, _ count: Int,
    from first: Int
  ) {
    if let list {
      list[start..<start + count].withUnsafeBufferPointer {
        if let first = $0.baseAddress { numbers.update(from: first, count: count) }
      }
    } else {
      // Wrapping sums, so that they are computed by vectors.
      let first = Int32(first)
      for column in 0..<Int32(count) { numbers[Int(column)] = first &+ column }
    }
  }

  /// Writes the positions of a tile's keys, which are known, and each row's range of columns.
  func fillTile(
    _ index: Int, _ memory: TileMemory, _ indices: UnsafeMutablePointer<Int32>
  ) {
    let (isFar, start, count) = tile(index)
    fill(memory.positions, isFar ? far.positions : nil, start, count, from: start)
    let (first, last) = (memory.first, memory.last)
    var end = 0
    for (row, query) in queries.enumerated() {
      let position = input.start + query
      if isFar {
        // Indices and positions ascend, so the end only moves on.
        while end < count, Int(indices[end]) + far.window <= position { end += 1 }
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
  }
}
