// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
package import HiPCompute
internal import HiPTensors

extension PlainKernels {
  /// Attention of some queries of one sequence over what a policy lets them reach.
  package func attend(
    _ item: AttendCall.Item, layer: Int, _ keys: PlainKeys, on stream: CUDAStream
  ) throws(ComputeError) {
    let shape = item.input.shape
    let rows = item.input.queries.rows
    guard rows > 0 else { return }
    guard item.output.element == item.input.queries.element else {
      throw mistake("queries and outputs are not stored alike")
    }
    var call = try call(item, rows: 0..<rows, keys, on: stream)
    switch item.reach {
    case .dense: call.reach = Int32(IHP_PLAIN_DENSE_REACH)
    case .streaming(let window):
      call.reach = Int32(IHP_PLAIN_STREAMING_REACH)
      call.sink = Int32(clamping: window.sink)
      call.window = Int32(clamping: window.window)
    case .selected(let pruning, let state):
      let places = try select(
        &call, item.input, pruning, state.onCUDA.layers[layer], on: stream)
      try launch(call, keys, item.input, on: stream)
      // The places are read until here.
      withExtendedLifetime(places) {}
      return
    case .heavyHitters(let hitters, let state):
      try attendEvicting(item, layer: layer, hitters, state.onCUDA, keys, on: stream)
      return
    }
    precondition(shape.heads % shape.kvHeads == 0)
    try launch(call, keys, item.input, on: stream)
  }

  /// Attention to nothing yet, of some rows.
  func call(
    _ item: AttendCall.Item, rows: Range<Int>, _ keys: PlainKeys, on stream: CUDAStream
  ) throws(ComputeError) -> ihp_plain_attend {
    var call = ihp_plain_attend()
    call.input = try input(item.input, rows: rows, keys, on: stream)
    call.output = item.output.rows(rows).address
    call.sinks = item.input.sinks?.address ?? 0
    call.query_block = 64
    call.sets = Int32(item.input.shape.kvHeads)
    call.owners = 1
    call.block_size = 1
    return call
  }

  /// Lets a call reach what was selected; the positions of it, where somebody has to compute them.
  private func select(
    _ call: inout ihp_plain_attend, _ input: AttentionInput, _ pruning: HierarchicalPruning,
    _ selection: LayerSelection, on stream: CUDAStream
  ) throws(ComputeError) -> CUDABuffer? {
    let owners = pruning.sharing.owners(input.shape)
    let blocks = (input.queries.rows + pruning.queryBlock - 1) / pruning.queryBlock
    call.reach = Int32(IHP_PLAIN_SELECTED_REACH)
    call.scheme = pruning.attentionPositions.kernelNumber
    call.query_block = Int32(pruning.queryBlock)
    call.sink = Int32(clamping: pruning.sink)
    call.window = Int32(clamping: pruning.window)
    call.owners = Int32(owners)
    call.block_size = Int32(pruning.blockSize)
    if pruning.sharing == .head { call.sets = call.input.heads }
    if let lists = selection.lists, let counts = selection.counts {
      guard selection.blockCount >= blocks, selection.ownerCount == owners else {
        throw mistake(
          "\(blocks) blocks of queries attend to what was selected for \(selection.blockCount)")
      }
      call.lists = lists.address
      call.counts = counts.address
      call.max_blocks = Int32(clamping: selection.capacity)
    }
    guard pruning.attentionPositions == .spread else { return nil }
    let places = try memory.allocate(byteCount: 4 * blocks * owners * (Int(call.max_blocks) + 1))
    call.places = places.address
    let spread = ihp_plain_spread(
      lists: call.lists, counts: call.counts, places: places.address,
      trained_length: call.input.trained_length, max_blocks: call.max_blocks,
      block_size: call.block_size, owners: call.owners, blocks: Int32(blocks),
      start: call.input.start, query_block: call.query_block, sink: call.sink, window: call.window)
    try selectingKernel("plain_spread").launch(
      LaunchShape(
        grid: LaunchShape.Extent((blocks * owners + 31) / 32), block: LaunchShape.Extent(32)),
      on: stream, spread)
    return places
  }

  /// Enqueues an attention.
  func launch(
    _ call: ihp_plain_attend, _ keys: PlainKeys, _ input: AttentionInput, on stream: CUDAStream
  ) throws(ComputeError) {
    guard !supportsTiles(call, keys.element) else {
      return try launchTiles(call, keys, input, on: stream)
    }
    let shape = input.shape
    let rowCount = Int(IHP_PLAIN_ATTEND_ROWS)
    let blocks = (Int(call.input.rows) + Int(call.query_block) - 1) / Int(call.query_block)
    let tiles =
      (Int(call.query_block) * shape.heads / Int(call.sets) + rowCount - 1) / rowCount
    let real = realByteCount(keys.element)
    try kernel("plain_attend", of: "plain_attend.cu", keys.element, input.queries.element).launch(
      LaunchShape(
        grid: LaunchShape.Extent(blocks * tiles, Int(call.sets)), block: LaunchShape.Extent(256),
        sharedByteCount: real
          * (tileSize(shape) + rowCount * shape.headSize)), on: stream, call)
  }

  /// Numbers of a tile of keys: one more than it has elements for each, so that lanes read from different banks.
  func tileSize(_ shape: AttentionShape) -> Int {
    Int(IHP_PLAIN_COLUMNS) * (shape.headSize + 1)
  }
}
