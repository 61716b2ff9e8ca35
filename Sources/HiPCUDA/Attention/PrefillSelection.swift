// SPDX-License-Identifier: Apache-2.0

package import CHiPCUDA
package import HiPAttention
package import HiPCompute
package import HiPTensors

/// Selection for blocks of 64 queries: `select_prefill.cu`.
package struct PrefillSelection {
  private let kernels: LoadedKernels
  private let workspace: Workspace

  package init(_ kernels: LoadedKernels, _ workspace: Workspace) {
    self.kernels = kernels
    self.workspace = workspace
  }

  /// What the kernels are made with besides the heads.
  private struct Form {
    var blockKeys = 16
    var chunkKeys = 32
    var share = 4
    var scanStride = 64
    var fineStride = 8
  }

  /// Programs that stand for all.
  package static let programs: [KernelProgram] = AttentionVariant.samples.enumerated().compactMap {
    index, variant in
    var form = Form()
    if index % 2 == 1 { form = Form(blockKeys: 8, chunkKeys: 64, share: 1, scanStride: 16) }
    return try? program(variant, form)
  }

  private static func program(
    _ variant: AttentionVariant, _ form: Form
  ) throws(ComputeError) -> KernelProgram {
    try variant.program(
      "select_prefill.cu",
      [
        ("BLOCK_KEYS", form.blockKeys), ("CHUNK_KEYS", form.chunkKeys), ("SHARE", form.share),
        ("SCAN_STRIDE", form.scanStride), ("FINE_STRIDE", form.fineStride),
      ])
  }

  /// What the kernels of some heads and a plan have of memory and threads.
  private struct Sizes {
    let plan: SelectionPlan
    /// Rows that scan for a set and a key-value head.
    let scanRows: Int
    /// Rows of a block that score keys.
    let fineRows: Int
    /// Blocks of queries that a block of threads scores keys for.
    let refineShare: Int
    let refineThreads: Int
    let scanRoom: Int
    let refineByteCount: Int

    init(_ variant: AttentionVariant, _ plan: SelectionPlan, isHopper: Bool) {
      self.plan = plan
      let (headSize, hopper) = (variant.headSize, Int32(isHopper))
      scanRows = plan.sharedBlocks * QueryRun.blockSize / plan.scanStride * variant.shape.groupSize
      let rows = ihp_fine_rows(variant.groupSize, Int32(clamping: plan.fineStride))
      let share = ihp_refine_share(Int32(clamping: plan.sharedBlocks), rows)
      fineRows = Int(rows)
      refineShare = Int(share)
      refineThreads = Int(ihp_refine_threads(share * rows, hopper))
      scanRoom = Int(ihp_scan_room(headSize, Int32(clamping: scanRows)))
      let tileChunks = Int(ihp_refine_tile(headSize, hopper)) / plan.coarse.chunkKeys
      let shares = refineShare * plan.coarse.keep + 2 * tileChunks
      refineByteCount =
        Int(ihp_refine_room(headSize, share * rows, hopper))
        + 4 * (plan.coarse.keep.rounded(upTo: tileChunks) + shares * plan.blocksPerChunk)
    }
  }

  /// Whether the kernels have such heads and stages.
  /// - Parameter device: where, which decides how long lists may be.
  package static func supports(
    _ shape: AttentionShape, _ element: ElementType, _ plan: SelectionPlan,
    on device: DeviceFacts
  ) -> Bool {
    let variant = AttentionVariant(shape: shape, element: element)
    guard variant.isSupported(blockKeys: plan.fine.chunkKeys),
      [1, 2, 4].contains(plan.sharedBlocks),
      QueryRun.blockSize % plan.scanStride == 0, QueryRun.blockSize % plan.fineStride == 0,
      QueryRun.blockSize / plan.fineStride * shape.groupSize <= 128
    else { return false }
    let sizes = Sizes(variant, plan, isHopper: device.isHopper)
    return sizes.scanRows <= 64
      && max(sizes.scanRoom, sizes.refineByteCount) <= device.sharedByteCount
  }

  /// Rows of the lists of such runs.
  package static func rowCount(_ runs: [QueryRun]) -> Int { runs.reduce(0) { $0 + $1.blockCount } }

  private struct ListKey: Hashable {
    let runs: [QueryRun]
    let plan: SelectionPlan
    let grid: SelectCall.GridLength
  }

  package static func sets(
    _ runs: [QueryRun], _ plan: SelectionPlan, _ grid: SelectCall.GridLength
  ) -> [ihp_query_set] {
    let size = plan.sharedBlocks * QueryRun.blockSize
    var sets: [ihp_query_set] = []
    var row = 0
    for run in runs {
      for first in stride(from: 0, to: run.count, by: size) {
        let count = min(size, run.count - first)
        let position = run.position + first
        sets.append(
          ihp_query_set(
            sequence: Int32(clamping: run.sequence),
            first_query: Int32(clamping: run.firstRow + first), query_count: Int32(clamping: count),
            first_position: Int32(clamping: position),
            first_row: Int32(clamping: row + first / QueryRun.blockSize),
            grid_end: Int32(clamping: plan.gridEnd(queriesBefore: position + count, grid))))
      }
      row += run.blockCount
    }
    return sets
  }

  /// Selects for every block of 64 queries of the runs, in order, into `selection`.
  /// - Parameters:
  ///   - queries: the device's address of `[tokens][heads][headSize]` in the element of the keys.
  ///   - gridLength: as in `SelectCall`.
  package func select(
    queries: UInt64, _ runs: [QueryRun], over keys: PagedKeys, _ tables: SequenceTables,
    _ plan: SelectionPlan, gridLength: SelectCall.GridLength = .ownBlock,
    into selection: SelectedBlocks, on stream: CUDAStream
  ) throws(ComputeError) {
    precondition(selection.blockKeys == plan.fine.chunkKeys && selection.capacity >= plan.fine.keep)
    let (shape, device) = (keys.shape, kernels.device)
    guard keys.means != 0, Self.supports(shape, keys.element, plan, on: device.facts) else {
      throw ComputeError(
        .unsupported, "the GPU's tuned selection has no such stages; select with the plain kernels")
    }
    let variant = AttentionVariant(shape: shape, element: keys.element)
    let sizes = Sizes(variant, plan, isHopper: kernels.isHopper)
    let program = try Self.program(
      variant,
      Form(
        blockKeys: plan.fine.chunkKeys, chunkKeys: plan.coarse.chunkKeys, share: plan.sharedBlocks,
        scanStride: plan.scanStride, fineStride: plan.fineStride))
    let sets = try workspace.list(
      ListKey(runs: runs, plan: plan, grid: gridLength), on: stream
    ) { Self.sets(runs, plan, gridLength) }
    guard sets.count > 0 else { return }

    let chunks = tables.capacity / plan.coarse.chunkKeys
    let pairs = sets.count * shape.kvHeads
    let isInShared = sizes.scanRoom + 4 * chunks <= device.facts.sharedByteCount
    func scratch(_ name: String, _ byteCount: Int) throws(ComputeError) -> UInt64 {
      try workspace.address(name, byteCount: byteCount, on: stream)
    }
    let arguments = ihp_select_prefill(
      query: queries,
      scan_queries: try scratch("scan queries", pairs * sizes.scanRows * shape.headSize * 4),
      fine_queries: try scratch(
        "fine queries", pairs * plan.sharedBlocks * sizes.fineRows * shape.headSize * 2),
      keys: keys.keys, means: keys.means, mean_scales: keys.meanScales, page_table: tables.pages,
      sets: sets.address, bins: isInShared ? 0 : try scratch("bins", pairs * chunks * 4),
      survivors: try scratch("survivors", pairs * plan.coarse.keep * 4),
      survivor_counts: try scratch("survivor counts", pairs * 4), selection: selection.blocks,
      selected_counts: selection.counts, coarse: plan.coarse.parameters(),
      fine: plan.fine.parameters(), set_count: Int32(clamping: sets.count),
      kv_heads: variant.kvHeads, table_stride: Int32(clamping: tables.stride),
      page_count: Int32(clamping: keys.pageCount),
      list_capacity: Int32(clamping: selection.capacity), chunk_capacity: Int32(clamping: chunks),
      slice_chunks: Int32(clamping: isInShared ? chunks : 0), sink: Int32(clamping: plan.sink),
      scale: shape.scale, soft_cap: variant.softCap)
    func launch(
      _ name: String, _ blocks: Int, threads: Int, sharedByteCount: Int = 0
    ) throws(ComputeError) -> (CUDAKernel, LaunchShape) {
      (
        try kernels.kernel(name, of: program),
        LaunchShape(
          grid: LaunchShape.Extent(blocks, shape.kvHeads), block: LaunchShape.Extent(threads),
          sharedByteCount: sharedByteCount, overlapsPrevious: kernels.overlaps)
      )
    }
    let average = try launch(
      "averageQueries", sets.count * plan.sharedBlocks, threads: shape.headSize / 2)
    try average.0.launch(average.1, on: stream, arguments)
    let scan = try launch(
      "scanForSets", sets.count, threads: Int(ihp_scan_threads(variant.headSize)),
      sharedByteCount: sizes.scanRoom + (isInShared ? 4 * chunks : 0))
    try scan.0.launch(scan.1, on: stream, arguments)
    let refine = try launch(
      "refineSets", sets.count * (plan.sharedBlocks / sizes.refineShare),
      threads: sizes.refineThreads, sharedByteCount: sizes.refineByteCount)
    try refine.0.launch(
      refine.1, on: stream, arguments,
      workspace.map(of: keys.keys, keys, rows: plan.coarse.chunkKeys, device))
  }
}
