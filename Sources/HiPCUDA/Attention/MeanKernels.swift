// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
package import HiPCompute

/// What tuned selections want of new keys that are stored already: the means that they complete, `means.cu`.
package struct MeanKernels {
  private static let threads = 128

  private let kernels: LoadedKernels
  private let workspace: Workspace

  package init(_ kernels: LoadedKernels, _ workspace: Workspace) {
    self.kernels = kernels
    self.workspace = workspace
  }

  /// Programs that stand for all.
  package static let programs: [KernelProgram] = AttentionVariant.samples.compactMap {
    try? program($0)
  }

  private static func program(_ variant: AttentionVariant) throws(ComputeError) -> KernelProgram {
    try variant.program("means.cu", isGrouped: false)
  }

  private struct ListKey: Hashable {
    let counts: [Int]
  }

  /// Makes the means that the last `counts` keys of each sequence of the tables complete.
  package func completeMeans(
    counts: [Int], of keys: PagedKeys, _ tables: SequenceTables, on stream: CUDAStream
  ) throws(ComputeError) {
    precondition(counts.count == tables.sequenceCount && keys.means != 0)
    guard let most = counts.max(), most > 0 else { return }
    let variant = AttentionVariant(shape: keys.shape, element: keys.element)
    let kernel = try kernels.kernel("completeMeans", of: Self.program(variant))
    let newCounts = try workspace.list(ListKey(counts: counts), on: stream) {
      counts.map { Int32(clamping: $0) }
    }
    let arguments = ihp_means(
      keys: keys.keys, means: keys.means, mean_scales: keys.meanScales, page_table: tables.pages,
      new_counts: newCounts.address, key_counts: tables.keyCounts, kv_heads: variant.kvHeads,
      table_stride: Int32(clamping: tables.stride), page_count: Int32(clamping: keys.pageCount))
    // Pages that the longest addition touches, wherever in a page it begins.
    let pages = (most + PagedKeys.pageSize - 2) / PagedKeys.pageSize + 1
    let shape = LaunchShape(
      grid: LaunchShape.Extent(pages, keys.shape.kvHeads, tables.sequenceCount),
      block: LaunchShape.Extent(Self.threads), overlapsPrevious: kernels.overlaps)
    try kernel.launch(shape, on: stream, arguments)
  }
}
