// SPDX-License-Identifier: Apache-2.0

package import CHiPCUDA
package import HiPAttention
package import HiPCompute
package import HiPTensors

/// Attention of many queries, dense, over sink and window, or over selected blocks besides: `attention_prefill.cu`.
package struct PrefillAttention {
  /// Rows of a tile: queries times heads of a group.
  private static let tileRows = 128

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
    try variant.program("attention_prefill.cu", [("BLOCK_KEYS", blockKeys)])
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
      && sharedByteCount(variant, isHopper: device.isHopper) <= device.launchSharedByteCount
  }

  private static func sharedByteCount(_ variant: AttentionVariant, isHopper: Bool) -> Int {
    Int(ihp_prefill_room(variant.headSize, Int32(isHopper)))
  }

  private struct ListKey: Hashable {
    let runs: [QueryRun]
    let group: Int
    let isDense: Bool
  }

  /// Tiles of queries that cross no block; those of dense attention longest first.
  package static func items(
    _ runs: [QueryRun], group: Int, isDense: Bool
  ) -> [ihp_prefill_item] {
    let size = tileRows / group
    var items: [ihp_prefill_item] = []
    var row: Int32 = 0
    for run in runs {
      for block in stride(from: 0, to: run.count, by: QueryRun.blockSize) {
        let end = min(block + QueryRun.blockSize, run.count)
        for first in stride(from: block, to: end, by: size) {
          items.append(
            ihp_prefill_item(
              sequence: Int32(clamping: run.sequence),
              first_query: Int32(clamping: run.firstRow + first),
              query_count: Int32(clamping: min(size, end - first)),
              first_position: Int32(clamping: run.position + first), list_row: row))
        }
        row += 1
      }
    }
    if isDense { items.sort { $0.first_position > $1.first_position } }
    return items
  }

  /// Computes the outputs of some runs.
  ///
  /// A query at position p sees keys i with p - window < i <= p, those with i < sink and
  /// i <= p, and those of its listed blocks with sink <= i <= p - window.
  /// - Parameter selection: lists, a row for every block of 64 queries of the runs, in order; nil: none.
  package func attend(
    _ rows: AttentionRows, _ runs: [QueryRun], over keys: PagedKeys, _ tables: SequenceTables,
    reach: Reach, selection: SelectedBlocks? = nil, on stream: CUDAStream
  ) throws(ComputeError) {
    let variant = AttentionVariant(shape: keys.shape, element: keys.element)
    guard
      Self.supports(
        keys.shape, keys.element, reach, blockKeys: selection?.blockKeys, on: kernels.device.facts)
    else { throw variant.refusal(on: kernels.device.facts) }
    let blockKeys = selection?.blockKeys ?? PagedKeys.pageSize
    let kernel = try kernels.kernel(
      "attentionPrefill", of: Self.program(variant, blockKeys: blockKeys))
    let isDense = selection == nil
    let group = keys.shape.groupSize
    let items = try workspace.list(
      ListKey(runs: runs, group: group, isDense: isDense), on: stream
    ) {
      Self.items(runs, group: group, isDense: isDense)
    }
    let arguments = ihp_prefill(
      query: rows.queries, output: rows.outputs, log_sums: rows.logSums, keys: keys.keys,
      values: keys.values, page_table: tables.pages, selection: selection?.blocks ?? 0,
      selected_counts: selection?.counts ?? 0, items: items.address, sink_logits: rows.sinkLogits,
      item_count: Int32(clamping: items.count), kv_heads: variant.kvHeads,
      table_stride: Int32(clamping: tables.stride),
      list_capacity: Int32(clamping: selection?.capacity ?? 0), sink: Int32(clamping: reach.sink),
      window: Int32(clamping: reach.window), scale: keys.shape.scale, soft_cap: variant.softCap)
    let isHopper = kernels.isHopper
    let shape = LaunchShape(
      grid: LaunchShape.Extent(
        min(kernels.device.facts.multiprocessorCount, items.count * keys.shape.kvHeads)),
      block: LaunchShape.Extent(isHopper ? 384 : 256),
      sharedByteCount: Self.sharedByteCount(variant, isHopper: isHopper),
      overlapsPrevious: kernels.overlaps)
    let device = kernels.device
    try kernel.launch(
      shape, on: stream, arguments, workspace.map(of: keys.keys, keys, rows: 64, device),
      workspace.map(of: keys.values, keys, rows: 64, device),
      workspace.map(of: keys.keys, keys, rows: blockKeys, device),
      workspace.map(of: keys.values, keys, rows: blockKeys, device))
  }
}
