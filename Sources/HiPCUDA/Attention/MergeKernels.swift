// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
package import HiPCompute
package import HiPTensors

/// Outputs of one attention over disjoint keys, put together: `merge.cu`.
package struct MergeKernels {
  /// Outputs over some of the keys each.
  package struct Parts: Sendable, Hashable {
    /// The device's address of `[part][row][headSize]`.
    package var outputs: UInt64
    /// float32 `[part][row]`: logarithms of the softmax's sums, minus infinity where a part saw no key.
    package var logSums: UInt64
    package var count: Int
    /// Tokens times heads.
    package var rowCount: Int

    package init(outputs: UInt64, logSums: UInt64, count: Int, rowCount: Int) {
      self.outputs = outputs
      self.logSums = logSums
      self.count = count
      self.rowCount = rowCount
    }
  }

  private let kernels: LoadedKernels

  package init(_ kernels: LoadedKernels) { self.kernels = kernels }

  /// Programs that stand for all.
  package static let programs: [KernelProgram] = AttentionVariant.samples.compactMap {
    try? $0.program("merge.cu", isGrouped: false)
  }

  /// Puts parts together, each weighted by its sum.
  /// - Parameters:
  ///   - output: the device's address of `[row][headSize]`.
  ///   - logSums: float32 `[row]`; 0: not wanted.
  package func merge(
    _ parts: Parts, headSize: Int, _ element: ElementType, into output: UInt64, logSums: UInt64 = 0,
    on stream: CUDAStream
  ) throws(ComputeError) {
    let variant = AttentionVariant(
      shape: AttentionShape(heads: 1, kvHeads: 1, headSize: headSize), element: element)
    let kernel = try kernels.kernel(
      "mergeParts", of: variant.program("merge.cu", isGrouped: false))
    let arguments = ihp_merge(
      parts: parts.outputs, log_sums: parts.logSums, output: output, log_sum: logSums,
      part_count: Int32(clamping: parts.count), rows: Int32(clamping: parts.rowCount))
    try kernel.launch(
      LaunchShape(
        grid: LaunchShape.Extent(parts.rowCount), block: LaunchShape.Extent(headSize / 2),
        overlapsPrevious: kernels.overlaps),
      on: stream, arguments)
  }
}
