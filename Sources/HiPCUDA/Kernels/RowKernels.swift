// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPCompute
internal import HiPTensors

/// Rows that are gathered, converted and filled on a device: `rows.cu`.
package struct RowKernels {
  private let kernels: LoadedKernels

  package init(_ kernels: LoadedKernels) { self.kernels = kernels }

  /// The programs of all pairs of elements, for whoever compiles them ahead.
  package static let programs: [KernelProgram] = {
    let names = [ElementType.float32, .float16, .bfloat16].compactMap(\.kernelName)
    return names.flatMap { source in names.map { program(source, $0) } }
  }()

  private static func program(_ source: String, _ target: String) -> KernelProgram {
    KernelProgram(
      "rows.cu", [KernelProgram.Macro("SOURCE", source), KernelProgram.Macro("TARGET", target)])
  }

  private func kernel(
    _ name: String, _ source: ElementType, _ target: ElementType
  ) throws(ComputeError) -> CUDAKernel {
    guard let from = source.kernelName, let to = target.kernelName else {
      throw ComputeError(
        .unsupported,
        "the GPU has no conversion of rows from \(source.rawValue) to \(target.rawValue); convert them on the CPU"
      )
    }
    return try kernels.kernel(name, of: Self.program(from, to))
  }

  private func shape(_ target: DeviceTensor) -> LaunchShape {
    LaunchShape(
      grid: LaunchShape.Extent(min(target.rows, 32 * kernels.device.facts.multiprocessorCount)),
      block: LaunchShape.Extent(target.columns >= 256 ? 256 : 64))
  }

  /// Copies rows, converted where the element types differ.
  /// - Parameter indices: which rows of the source, 32-bit integers in the device's memory; nil: as they come.
  package func move(
    _ source: DeviceTensor, rows indices: CUDABuffer? = nil, to target: DeviceTensor,
    on stream: CUDAStream
  ) throws(ComputeError) {
    precondition(source.columns == target.columns)
    precondition((indices?.byteCount).map { $0 / 4 >= target.rows } ?? (source.rows == target.rows))
    let rows = ihp_rows(
      source: source.address, target: target.address, indices: indices?.address ?? 0,
      source_stride: Int64(source.columns), target_stride: Int64(target.columns),
      rows: Int32(clamping: target.rows), columns: Int32(clamping: target.columns))
    try kernel("move_rows", source.element, target.element).launch(shape(target), on: stream, rows)
  }

  /// Sets all elements.
  package func fill(
    _ target: DeviceTensor, with value: Float, on stream: CUDAStream
  ) throws(ComputeError) {
    let rows = ihp_rows(
      source: 0, target: target.address, indices: 0, source_stride: 0,
      target_stride: Int64(target.columns), rows: Int32(clamping: target.rows),
      columns: Int32(clamping: target.columns))
    try kernel("fill_rows", target.element, target.element).launch(
      shape(target), on: stream, rows, value)
  }
}
