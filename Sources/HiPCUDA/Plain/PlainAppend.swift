// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
package import HiPCompute
internal import HiPTensors

extension PlainKernels {
  /// Stores the new keys and values of one sequence; queries and keys are brought into the order of halves.
  package func append(
    _ call: AppendCall, _ part: SequenceRows, to keys: PlainKeys, faults: RowFaults,
    on stream: CUDAStream
  ) throws(ComputeError) {
    let shape = keys.shape
    guard call.keys.element == call.values.element, call.keys.columns == call.values.columns,
      call.keys.columns == shape.kvHeads * shape.headSize,
      call.queries.map({ $0.element == call.keys.element && $0.columns % shape.headSize == 0 })
        ?? true
    else { throw mistake("new keys, values and queries do not fit together") }
    let queries = call.order == .interleaved ? call.queries : nil
    let arguments = ihp_plain_append(
      queries: queries.map { $0.rows(part.rows).address } ?? 0,
      new_keys: call.keys.rows(part.rows).address, new_values: call.values.rows(part.rows).address,
      keys: keys.keys, values: keys.values, pages: keys.pages, faults: faults.address,
      fault_capacity: Int32(RowFaults.capacity),
      heads: Int32((queries?.columns ?? 0) / shape.headSize), kv_heads: Int32(shape.kvHeads),
      head_size: Int32(shape.headSize),
      interleaved_pairs: call.order == .interleaved ? Int32(call.rotaryDimensions / 2) : 0,
      rows: Int32(part.rows.count), start: Int32(clamping: part.start),
      first_row: Int32(clamping: part.rows.lowerBound), layer: Int32(clamping: call.layer))
    try kernel("plain_append", of: "plain_append.cu", keys.element, call.keys.element).launch(
      LaunchShape(
        grid: LaunchShape.Extent(part.rows.count), block: LaunchShape.Extent(256)), on: stream,
      arguments)
  }
}

/// Rows of a step that are not finite, as kernels report them.
package final class RowFaults {
  /// As many are told of one step.
  static let capacity = 1024
  private let buffer: CUDABuffer
  private let pinned: PinnedBuffer

  /// None.
  package init(_ memory: DeviceMemory, on stream: CUDAStream) throws(ComputeError) {
    let byteCount = 4 * (1 + 2 * Self.capacity)
    buffer = try memory.allocate(byteCount: byteCount)
    pinned = try memory.allocatePinned(byteCount: byteCount)
    try stream.fill(buffer.all, with: 0)
  }

  /// The device's address of a count, behind which pairs of a row and a layer follow.
  package var address: UInt64 { buffer.address }

  /// What a kernel reports rows with.
  func arguments(layer: Int?, firstRow: Int) -> ihp_row_faults {
    ihp_row_faults(
      list: address, capacity: Int32(Self.capacity), layer: layer.map { Int32($0) } ?? -1,
      first_row: Int32(clamping: firstRow))
  }

  /// Enqueues that they are fetched, and forgotten on the device.
  package func fetch(on stream: CUDAStream) throws(ComputeError) {
    try stream.copy(buffer.all, to: pinned.all)
    try stream.fill(buffer.all, with: 0)
  }

  /// Enqueues that what the device has found is forgotten, as after a step that failed.
  package func forget(on stream: CUDAStream) throws(ComputeError) {
    try stream.fill(buffer.all, with: 0)
  }

  /// What was fetched last, once that is done, by layer and row: where each row stopped being finite first.
  package var fetched: [StepOutput.RowFault] {
    let numbers = unsafe pinned.bytes.bindMemory(to: Int32.self)
    let count = unsafe min(Self.capacity, max(0, Int(numbers[0])))
    let pairs = (0..<count).map { index in
      unsafe (layer: Int(numbers[2 + 2 * index]), row: Int(numbers[1 + 2 * index]))
    }
    var rows: Set<Int> = []
    return pairs.sorted { ($0.layer, $0.row) < ($1.layer, $1.row) }
      .filter { rows.insert($0.row).inserted }
      .map { StepOutput.RowFault(row: $0.row, layer: $0.layer < 0 ? nil : $0.layer) }
  }
}
