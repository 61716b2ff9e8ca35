// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
internal import HiPCompute
internal import HiPTensors

/// Attention by matrix units with rotation on the way: `attend_tiles.cu`.
extension PlainKernels {
  static func tileProgram(
    _ element: String, _ query: String, headSize: Int
  ) -> KernelProgram {
    KernelProgram(
      "attend_tiles.cu",
      [.init("ELEMENT", element), .init("QUERY", query), .init("HEAD_SIZE", headSize)])
  }

  static let turnProgram = KernelProgram("turns.cu")

  /// Whether matrix units have all that an attention needs.
  func supportsTiles(_ call: ihp_plain_attend, _ element: ElementType) -> Bool {
    usesMatrixUnits && element != .float32 && call.log_sums == 0
      && tileByteCount(Int(call.input.head_size)) <= kernels.device.facts.launchSharedByteCount
      && call.reach != Int32(IHP_PLAIN_KEPT_REACH) && call.input.pairs % 4 == 0
      && !(call.reach == Int32(IHP_PLAIN_SELECTED_REACH)
        && call.scheme == Int32(IHP_PLAIN_DYNAMIC))
  }

  /// Enqueues an attention of which `supportsTiles` says so.
  func launchTiles(
    _ call: ihp_plain_attend, _ keys: PlainKeys, _ input: AttentionInput, on stream: CUDAStream
  ) throws(ComputeError) {
    guard let element = keys.element.kernelName, let query = input.queries.element.kernelName else {
      throw mistake("keys and queries are stored in a way that kernels do not know")
    }
    let size = input.shape.headSize
    var call = call
    // Of an unfinished block no tile is empty.
    call.query_block = min(call.query_block, call.input.rows)
    let program = Self.tileProgram(element, query, headSize: size)
    let turns = try turns(input.rotary, distances: farthest(call), on: stream)
    let blocks = (Int(call.input.rows) + Int(call.query_block) - 1) / Int(call.query_block)
    let rows = Int(call.query_block) * input.shape.heads / Int(call.sets)
    let tiles = (rows + IHP_ATTEND_TILE - 1) / IHP_ATTEND_TILE
    let splits = splits(call, blocks: tiles * Int(call.sets))
    let partials =
      splits > 1
      ? try memory.allocate(
        byteCount: 4 * tiles * Int(call.sets) * splits * IHP_ATTEND_TILE * (size + 2)) : nil
    let arguments = ihp_attend_tiles(
      attend: call, turns: turns?.buffer.address ?? 0,
      turn_count: Int32(clamping: turns?.count ?? 0), splits: Int32(splits),
      partials: partials?.address ?? 0)
    try kernels.kernel("attend_tiles", of: program).launch(
      LaunchShape(
        grid: LaunchShape.Extent(blocks * tiles, Int(call.sets), splits),
        block: LaunchShape.Extent(128),
        sharedByteCount: tileByteCount(size)), on: stream, arguments)
    guard splits > 1 else { return }
    try kernels.kernel("merge_tiles", of: program).launch(
      LaunchShape(
        grid: LaunchShape.Extent(tiles, Int(call.sets), min(rows, IHP_ATTEND_TILE)),
        block: LaunchShape.Extent(64)), on: stream, arguments)
  }

  /// Bytes of the rows, keys and values that a block of threads has at hand.
  private func tileByteCount(_ headSize: Int) -> Int {
    2 * (IHP_ATTEND_TILE + 2 * 64) * (headSize + 8)
  }

  /// Thread blocks that share the keys of one query: as many as fill the device, each with two tiles of keys at least.
  ///
  /// By the keys alone, so that an answer's tokens do not depend on what is computed beside them.
  private func splits(_ call: ihp_plain_attend, blocks: Int) -> Int {
    guard call.input.rows == 1 else { return 1 }
    let filling = 2 * kernels.device.facts.multiprocessorCount / max(1, blocks)
    return max(1, min(32, filling, reachedKeys(call) / 128))
  }

  /// Keys that a query reaches, about.
  private func reachedKeys(_ call: ihp_plain_attend) -> Int {
    let end = Int(call.input.start) + Int(call.input.rows)
    let near = Int(call.sink) + Int(call.window)
    switch Int(call.reach) {
    case IHP_PLAIN_STREAMING_REACH: return min(end, near)
    case IHP_PLAIN_SELECTED_REACH:
      return min(end, near + Int(call.max_blocks) * Int(call.block_size))
    default: return end
    }
  }

  /// The greatest distance that keys appear to stand at, about.
  private func farthest(_ call: ihp_plain_attend) -> Int {
    let end = Int(call.input.start) + Int(call.input.rows)
    let reached = Int(call.sink) + Int(call.window) + Int(call.query_block)
    switch Int(call.reach) {
    case IHP_PLAIN_STREAMING_REACH: return min(end, reached)
    case IHP_PLAIN_SELECTED_REACH where Int(call.scheme) != IHP_PLAIN_ABSOLUTE:
      let selected = Int(call.max_blocks) * Int(call.block_size)
      return min(end, max(reached + selected, Int(clamping: call.input.trained_length)))
    default: return end
    }
  }

  /// Angles of as many distances as fit in a table of reasonable size.
  private func turns(
    _ rotary: RotaryEmbedding?, distances: Int, on stream: CUDAStream
  ) throws(ComputeError) -> TurnTable? {
    guard let rotary, !rotary.frequencies.isEmpty else { return nil }
    let wanted = min(distances, TurnTable.largestCount)
    if let known = turnTables[rotary.frequencies], known.count >= wanted { return known }
    var count = 1024
    while count < wanted { count *= 2 }
    let pairs = rotary.frequencies.count
    let table = TurnTable(
      buffer: try memory.allocate(byteCount: count * pairs * 8), count: count)
    try kernels.kernel("fill_turns", of: Self.turnProgram).launch(
      LaunchShape(
        grid: LaunchShape.Extent((count * pairs + 255) / 256), block: LaunchShape.Extent(256)),
      on: stream, frequencies(rotary, on: stream), Int32(pairs), Int32(count),
      table.buffer.address)
    // Texts that grow beyond what a model was trained on have ever other ones.
    if turnTables.count >= 4 { turnTables = [:] }
    turnTables[rotary.frequencies] = table
    return table
  }
}

/// Cosines and sines of angles by distance, in the device's memory.
struct TurnTable {
  let buffer: CUDABuffer
  /// Distances that it has.
  let count: Int

  /// Angles of greater distances are computed one by one.
  static let largestCount = 1 << 17
}
