// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPTensors

/// Rows of queries and outputs as kernels want them: one after the other, in the element of the keys.
final class RowStaging {
  private let memory: DeviceMemory
  private let kernels: RowKernels
  private var queries: CUDABuffer?
  private var outputs: CUDABuffer?

  init(_ memory: DeviceMemory, _ kernels: RowKernels) {
    self.memory = memory
    self.kernels = kernels
  }

  /// What a captured graph must keep.
  var owned: [AnyObject] { [queries, outputs].compactMap { $0 } }

  /// Whether tensors already are what kernels want.
  private static func isPlain(_ tensors: [DeviceTensor], _ element: ElementType) -> Bool {
    var next = tensors.first?.address ?? 0
    for tensor in tensors {
      guard tensor.element == element, tensor.address == next else { return false }
      next += UInt64(tensor.rows * tensor.rowByteCount)
    }
    return true
  }

  /// The device's address of the tensors' rows.
  func queries(
    _ tensors: [DeviceTensor], _ element: ElementType, on stream: CUDAStream
  ) throws(ComputeError) -> UInt64 {
    if Self.isPlain(tensors, element) { return tensors.first?.address ?? 0 }
    let buffer = try room(&queries, tensors, element)
    for (tensor, part) in zip(tensors, parts(of: buffer, tensors, element)) {
      try kernels.move(tensor, to: part, on: stream)
    }
    return buffer.address
  }

  /// Calls `body` with the device's address of room for the tensors' rows, which they have afterwards.
  func withOutputs(
    _ tensors: [DeviceTensor], _ element: ElementType, on stream: CUDAStream,
    _ body: (UInt64) throws(ComputeError) -> Void
  ) throws(ComputeError) {
    if Self.isPlain(tensors, element) { return try body(tensors.first?.address ?? 0) }
    let buffer = try room(&outputs, tensors, element)
    try body(buffer.address)
    for (tensor, part) in zip(tensors, parts(of: buffer, tensors, element)) {
      try kernels.move(part, to: tensor, on: stream)
    }
  }

  private func room(
    _ buffer: inout CUDABuffer?, _ tensors: [DeviceTensor], _ element: ElementType
  ) throws(ComputeError) -> CUDABuffer {
    let byteCount = tensors.reduce(0) { $0 + $1.rows * element.byteCount(of: $1.columns) }
    if let buffer, buffer.byteCount >= byteCount { return buffer }
    let made = try memory.allocate(byteCount: byteCount)
    buffer = made
    return made
  }

  private func parts(
    of buffer: CUDABuffer, _ tensors: [DeviceTensor], _ element: ElementType
  ) -> [DeviceTensor] {
    var offset = 0
    return tensors.map { tensor in
      defer { offset += tensor.rows * element.byteCount(of: tensor.columns) }
      return DeviceTensor(
        buffer: buffer, offset: offset, element: element, rows: tensor.rows,
        columns: tensor.columns)
    }
  }
}
