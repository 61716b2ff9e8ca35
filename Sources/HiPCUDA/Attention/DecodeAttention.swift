// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPAttention
package import HiPCompute
package import HiPTensors

/// Attention of one query of each sequence, its last one: `attention_decode.cu`.
package struct DecodeAttention {
  private static let warps = 8

  private let kernels: LoadedKernels
  private let workspace: Workspace

  package init(_ kernels: LoadedKernels, _ workspace: Workspace) {
    self.kernels = kernels
    self.workspace = workspace
  }

  /// Programs that stand for all.
  package static let programs: [KernelProgram] = AttentionVariant.samples.enumerated().compactMap {
    try? program($1, blockKeys: [16, 8, 64, 32][$0 % 4])
  }

  private static func program(
    _ variant: AttentionVariant, blockKeys: Int
  ) throws(ComputeError) -> KernelProgram {
    try variant.program("attention_decode.cu", [("BLOCK_KEYS", blockKeys), ("WARPS", warps)])
  }

  /// Whether the kernels have such heads, and blocks of so many keys where there are lists.
  ///
  /// Any window and any sink will do; with lists a sink of whole blocks.
  /// - Parameter device: where: large heads do not fit the shared memory of all.
  package static func supports(
    _ shape: AttentionShape, _ element: ElementType, _ reach: Reach = .dense, blockKeys: Int? = nil,
    on device: DeviceFacts
  ) -> Bool {
    let variant = AttentionVariant(shape: shape, element: element)
    return variant.isSupported(blockKeys: blockKeys)
      && blockKeys.map { reach.sink % $0 == 0 } ?? true
      && sharedByteCount(variant) <= device.launchSharedByteCount
  }

  /// Lists of keys at first, outputs of warps in their place in the end.
  private static func sharedByteCount(_ variant: AttentionVariant) -> Int {
    max(4096, warps * partByteCount(variant.shape))
  }

  /// Bytes of what a warp, or a split, has of a group's outputs.
  private static func partByteCount(_ shape: AttentionShape) -> Int {
    shape.groupSize * (shape.headSize + 2) * 4
  }

  /// Blocks of threads that share a head's keys: as many as the device holds at once, but 16 keys for each warp of
  /// theirs.
  private func splits(
    _ keys: PagedKeys, _ tables: SequenceTables, reach: Reach, selection: SelectedBlocks?
  ) -> Int {
    let listed = (selection?.capacity ?? 0) * (selection?.blockKeys ?? 0)
    let seen = min(tables.capacity, reach.sink + reach.window + listed)
    // Where much is read, two blocks on a multiprocessor keep the memory busy; more of them only meet later.
    let resident = seen >= 1 << 15 && keys.shape.headSize <= 128 ? 2 : 1
    let pairs = keys.shape.kvHeads * tables.sequenceCount
    let most = resident * kernels.device.facts.multiprocessorCount / pairs
    return max(1, min(most, (seen + 16 * Self.warps - 1) / (16 * Self.warps)))
  }

  /// Computes the outputs, row i for sequence i, by the rule of `PrefillAttention`.
  /// - Parameter selection: lists, a row for every sequence; nil: none.
  package func attend(
    _ rows: AttentionRows, over keys: PagedKeys, _ tables: SequenceTables, reach: Reach,
    selection: SelectedBlocks? = nil, on stream: CUDAStream
  ) throws(ComputeError) {
    let variant = AttentionVariant(shape: keys.shape, element: keys.element)
    guard
      Self.supports(
        keys.shape, keys.element, reach, blockKeys: selection?.blockKeys, on: kernels.device.facts)
    else { throw variant.refusal(on: kernels.device.facts) }
    let kernel = try kernels.kernel(
      "attentionDecode",
      of: Self.program(variant, blockKeys: selection?.blockKeys ?? PagedKeys.pageSize))
    let shape = keys.shape
    let splits = splits(keys, tables, reach: reach, selection: selection)
    let pairs = shape.kvHeads * tables.sequenceCount
    let arguments = ihp_decode(
      query: rows.queries, output: rows.outputs, log_sums: rows.logSums, keys: keys.keys,
      values: keys.values, page_table: tables.pages, key_counts: tables.keyCounts,
      selection: selection?.blocks ?? 0, selected_counts: selection?.counts ?? 0,
      sink_logits: rows.sinkLogits,
      partial: try workspace.address(
        "partial outputs", byteCount: pairs * splits * Self.partByteCount(shape), on: stream),
      arrived: try workspace.address(
        "arrivals", byteCount: pairs * 4, isZeroed: true, on: stream),
      kv_heads: variant.kvHeads, table_stride: Int32(clamping: tables.stride),
      list_capacity: Int32(clamping: selection?.capacity ?? 0), sink: Int32(clamping: reach.sink),
      window: Int32(clamping: reach.window), scale: shape.scale, soft_cap: variant.softCap)
    try kernel.launch(
      LaunchShape(
        grid: LaunchShape.Extent(splits, shape.kvHeads, tables.sequenceCount),
        block: LaunchShape.Extent(32 * Self.warps),
        sharedByteCount: Self.sharedByteCount(variant), overlapsPrevious: kernels.overlaps),
      on: stream, arguments)
  }
}
