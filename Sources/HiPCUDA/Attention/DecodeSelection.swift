// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPAttention
package import HiPCompute
package import HiPTensors

/// A fresh selection for one query of each sequence, its last one, and attention with it: `decode_once.cu` and
/// `select_decode.cu`.
///
/// Few sequences are served by one kernel, whose blocks wait for each other: nothing else may keep them from running
/// side by side, so one stream of a process selects at a time. Many are served by four kernels.
package struct DecodeSelection {
  private let kernels: LoadedKernels
  private let workspace: Workspace

  package init(_ kernels: LoadedKernels, _ workspace: Workspace) {
    self.kernels = kernels
    self.workspace = workspace
  }

  /// What the kernels are made with besides the heads.
  fileprivate struct Form {
    var blockKeys = 16
    var chunkKeys = 32
    /// How the four kernels are made; nil: the one that does it all.
    var four: Four? = nil

    struct Four {
      /// Blocks that rank chunks together.
      var cluster: Int
      var warps: Int
    }
  }

  /// Programs that stand for all.
  package static let programs: [KernelProgram] = AttentionVariant.samples.enumerated().flatMap {
    index, variant in
    var form = Form()
    if index % 2 == 1 { form = Form(blockKeys: 8, chunkKeys: 64) }
    let one = try? program(variant, form)
    // Code for sm_80 has no clusters, and nobody runs this one there.
    form.four = Form.Four(
      cluster: index == 0 ? 2 : 1, warps: warps(ofMany: index == 0, variant.shape))
    let four = try? program(variant, form)
    return [one, four].compactMap { $0 }
  }

  private static func program(
    _ variant: AttentionVariant, _ form: Form
  ) throws(ComputeError) -> KernelProgram {
    let sizes = [("BLOCK_KEYS", form.blockKeys), ("CHUNK_KEYS", form.chunkKeys)]
    guard let four = form.four else { return try variant.program("decode_once.cu", sizes) }
    return try variant.program(
      "select_decode.cu", sizes + [("CLUSTER", four.cluster), ("WARPS", four.warps)])
  }

  /// Warps of the blocks that score and attend: one block on a multiprocessor, or two.
  fileprivate static func warps(ofMany isMany: Bool, _ shape: AttentionShape) -> Int {
    isMany && shape.headSize <= 128 ? 16 : 8
  }

  /// How one call is spread over the device, and what it has of memory.
  private struct Sizes {
    let pairs: Int
    /// Chunks that a sequence can have, and blocks that the survivors have.
    let chunks, blocks: Int
    let form: Form
    /// Blocks that rank chunks together, and warps of those that score and attend, of the four kernels.
    let cluster, warps: Int
    /// Whether one kernel does it all.
    var isOne: Bool { form.four == nil }
    /// Blocks of threads of a head that scan, score and attend.
    let tiles, scoreSplits, attendSplits: Int
    let tileChunks: Int
    /// Chunks that a block ranks in shared memory; 0: in the device's.
    let sliceChunks: Int
    let selectByteCount, attendByteCount, onceByteCount: Int

    init(
      _ variant: AttentionVariant, _ plan: SelectionPlan, sequences: Int, capacity: Int,
      on device: DeviceFacts
    ) {
      let shape = variant.shape
      let multiprocessors = device.multiprocessorCount
      pairs = sequences * shape.kvHeads
      let perPage = PagedKeys.pageSize / plan.coarse.chunkKeys
      let pages = capacity / PagedKeys.pageSize
      chunks = pages * perPage
      blocks = plan.coarse.keep * plan.blocksPerChunk
      let fill = max(1, multiprocessors / pairs)
      let isMany = 8 * pairs > multiprocessors

      // Behind their room blocks have the list and its rows, then survivors and their rows and bins of blocks, and in
      // the end, in the place of those, outputs of warps.
      let lists = (2 * plan.fine.keep).rounded(upTo: 4) * 4
      let found = 8 * plan.coarse.keep + 4 * blocks
      let output = shape.groupSize * (shape.headSize + 2) * 4
      let onceSplits = min(32, fill)
      let onceScores =
        (pages + onceSplits - 1) / onceSplits * perPage * (shape.groupSize + 1) * 4
      onceByteCount =
        Int(ihp_once_room(variant.headSize, variant.groupSize)) + lists
        + max(found, Int(ihp_once_warps(variant.headSize)) * output, onceScores)
      let room = device.launchSharedByteCount
      let isOne = !isMany && onceByteCount <= room

      cluster = isOne || device.capability.major < 9 ? 1 : isMany ? 2 : 8
      warps = DecodeSelection.warps(ofMany: isMany, shape)
      form = Form(
        blockKeys: plan.fine.chunkKeys, chunkKeys: plan.coarse.chunkKeys,
        four: isOne ? nil : Form.Four(cluster: cluster, warps: warps))
      if isOne {
        (tiles, scoreSplits, attendSplits) = (onceSplits, onceSplits, onceSplits)
        tileChunks = 0
      } else {
        let slots = max(1, 2 * multiprocessors / pairs)
        let wanted = isMany ? 256 : ((pages + slots - 1) / slots).rounded(upTo: 64)
        let tilePages = min(2048, max(128, wanted))
        tiles = (pages + tilePages - 1) / tilePages
        tileChunks = tilePages * perPage
        scoreSplits = isMany ? max(8, min(32, fill)) : min(32, 2 * fill)
        attendSplits = min(32, fill)
      }
      let slice = (chunks + cluster - 1) / cluster
      let selectRoom = Int(ihp_select_room(variant.groupSize))
      sliceChunks = selectRoom + 4 * slice <= room ? slice : 0
      selectByteCount = selectRoom + 4 * sliceChunks
      attendByteCount = selectRoom + lists + max(found, warps * output)
    }
  }

  /// Whether the kernels have such heads and stages.
  /// - Parameters:
  ///   - sequences: of how many at once: blocks of threads that serve many want more shared memory.
  ///   - device: where, which decides how long lists may be.
  package static func supports(
    _ shape: AttentionShape, _ element: ElementType, _ plan: SelectionPlan, sequences: Int,
    on device: DeviceFacts
  ) -> Bool {
    let variant = AttentionVariant(shape: shape, element: element)
    guard variant.isSupported(blockKeys: plan.fine.chunkKeys), plan.fine.chunkKeys <= 16 else {
      return false
    }
    let sizes = Sizes(
      variant, plan, sequences: sequences, capacity: 1 << 16, on: device)
    return sizes.attendByteCount <= device.launchSharedByteCount
  }

  /// Selects blocks, row i for sequence i, into `selection`, and attends to them by the rule of `PrefillAttention`.
  /// - Parameters:
  ///   - rows: with `outputs` 0 it is only selected.
  ///   - gridLength: as in `SelectCall`, a fixed one taken for the number of keys.
  package func run(
    _ rows: AttentionRows, over keys: PagedKeys, _ tables: SequenceTables, _ plan: SelectionPlan,
    gridLength: SelectCall.GridLength = .ownBlock, into selection: SelectedBlocks,
    on stream: CUDAStream
  ) throws(ComputeError) {
    precondition(selection.blockKeys == plan.fine.chunkKeys && selection.capacity >= plan.fine.keep)
    let (shape, facts) = (keys.shape, kernels.device.facts)
    guard keys.means != 0,
      Self.supports(shape, keys.element, plan, sequences: tables.sequenceCount, on: facts)
    else {
      throw ComputeError(
        .unsupported, "the GPU's tuned selection has no such stages; select with the plain kernels")
    }
    let variant = AttentionVariant(shape: shape, element: keys.element)
    let sizes = Sizes(
      variant, plan, sequences: tables.sequenceCount, capacity: tables.capacity, on: facts)
    let program = try Self.program(variant, sizes.form)
    let arguments = try arguments(
      rows, keys, tables, plan, gridLength, selection, variant, sizes, on: stream)
    func enqueue(
      _ name: String, _ blocks: Int, threads: Int, sharedByteCount: Int = 0, cluster: Int = 1,
      isCooperative: Bool = false
    ) throws(ComputeError) {
      try kernels.kernel(name, of: program).launch(
        LaunchShape(
          grid: LaunchShape.Extent(blocks, shape.kvHeads, tables.sequenceCount),
          block: LaunchShape.Extent(threads), sharedByteCount: sharedByteCount,
          cluster: cluster > 1 ? LaunchShape.Extent(cluster) : nil,
          overlapsPrevious: kernels.overlaps, isCooperative: isCooperative),
        on: stream, arguments)
    }
    if sizes.isOne {
      try enqueue(
        "decodeOnce", sizes.attendSplits, threads: 32 * Int(ihp_once_warps(variant.headSize)),
        sharedByteCount: sizes.onceByteCount, isCooperative: true)
      return
    }
    try enqueue("scanSketches", sizes.tiles, threads: 256)
    try enqueue(
      "selectChunks", sizes.cluster, threads: 512, sharedByteCount: sizes.selectByteCount,
      cluster: sizes.cluster)
    try enqueue(
      "scoreSurvivors", sizes.scoreSplits, threads: 32 * sizes.warps,
      sharedByteCount: 8 * plan.coarse.keep)
    try enqueue(
      "attendSelected", rows.outputs == 0 ? 1 : sizes.attendSplits, threads: 32 * sizes.warps,
      sharedByteCount: sizes.attendByteCount)
  }

  private func arguments(
    _ rows: AttentionRows, _ keys: PagedKeys, _ tables: SequenceTables, _ plan: SelectionPlan,
    _ gridLength: SelectCall.GridLength, _ selection: SelectedBlocks, _ variant: AttentionVariant,
    _ sizes: Sizes, on stream: CUDAStream
  ) throws(ComputeError) -> ihp_select_decode {
    let (pairs, group) = (sizes.pairs, keys.shape.groupSize)
    func scratch(
      _ name: String, _ count: Int, isZeroed: Bool = false, isNeeded: Bool = true
    ) throws(ComputeError) -> UInt64 {
      guard isNeeded else { return 0 }
      return try workspace.address(
        name, byteCount: pairs * count * 4, isZeroed: isZeroed, on: stream)
    }
    // The grid of chunks ends a chunk behind the window's begin, or at it.
    let least =
      switch gridLength {
      case .ownBlock: plan.window - plan.coarse.chunkKeys
      case .fixed: plan.window
      }
    return ihp_select_decode(
      query: rows.queries, output: rows.outputs, log_sums: rows.logSums, keys: keys.keys,
      values: keys.values, means: keys.means, mean_scales: keys.meanScales,
      page_table: tables.pages, key_counts: tables.keyCounts,
      scores: try scratch("scan scores", sizes.chunks * group, isNeeded: !sizes.isOne),
      scan_sums: try scratch("scan sums", sizes.tiles * group * 2),
      bins: try scratch("bins", sizes.chunks, isNeeded: !sizes.isOne && sizes.sliceChunks == 0),
      survivors: try scratch("survivors", plan.coarse.keep),
      survivor_counts: try scratch("survivor counts", 1),
      block_scores: try scratch("block scores", sizes.blocks * group),
      block_sums: try scratch("block sums", sizes.scoreSplits * group * 2),
      partial: try scratch(
        "partial outputs", sizes.attendSplits * group * (keys.shape.headSize + 2),
        isNeeded: rows.outputs != 0),
      arrived: try scratch("arrivals", 1, isZeroed: true),
      histograms: try scratch(
        "histograms", sizes.tiles * Int(IHP_ONCE_BINS), isNeeded: sizes.isOne),
      phase: try scratch("phases", 1, isZeroed: true, isNeeded: sizes.isOne),
      selection: selection.blocks, selected_counts: selection.counts,
      sink_logits: rows.sinkLogits, coarse: plan.coarse.parameters(distanceAtLeast: least),
      fine: plan.fine.parameters(), kv_heads: variant.kvHeads,
      table_stride: Int32(clamping: tables.stride), page_count: Int32(clamping: keys.pageCount),
      list_capacity: Int32(clamping: selection.capacity),
      chunk_capacity: Int32(clamping: sizes.chunks), tile_capacity: Int32(clamping: sizes.tiles),
      score_splits: Int32(clamping: sizes.scoreSplits),
      tile_chunks: Int32(clamping: sizes.tileChunks),
      slice_chunks: Int32(clamping: sizes.sliceChunks), sink: Int32(clamping: plan.sink),
      window: Int32(clamping: plan.window), scale: keys.shape.scale, soft_cap: variant.softCap)
  }
}
