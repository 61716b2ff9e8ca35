// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPCompute

/// Work of a device that is done in the order in which it was enqueued.
@safe package final class CUDAStream {
  package let device: CUDADevice
  let handle: OpaquePointer

  package init(_ device: CUDADevice) throws(ComputeError) {
    var handle: OpaquePointer?
    try device.call("cuStreamCreate") {
      unsafe $0.pointee.stream_create(&handle, UInt32(IHP_CU_STREAM_NON_BLOCKING))
    }
    self.device = device
    unsafe self.handle = try device.made(handle, "cuStreamCreate")
  }

  deinit { device.release("cuStreamDestroy") { unsafe $0.pointee.stream_destroy(handle) } }

  // MARK: Order

  /// Waits until all of it is done.
  /// - Throws: what any of it came to.
  package func wait() throws(ComputeError) {
    try device.call("cuStreamSynchronize") { unsafe $0.pointee.stream_wait(handle) }
  }

  /// Lets an event mark this point.
  package func record(_ event: CUDAEvent) throws(ComputeError) {
    try device.call("cuEventRecord") { unsafe $0.pointee.event_record(event.handle, handle) }
  }

  // MARK: Copies

  /// Copies from pinned memory, which must stay as it is until the copy is done.
  package func copy(_ part: PinnedBuffer.Part, to target: CUDABuffer.Part) throws(ComputeError) {
    try check(part.range.count, target.range.count, "cuMemcpyHtoDAsync")
    try device.call("cuMemcpyHtoDAsync") {
      unsafe $0.pointee.copy_to_device(target.address, part.address, part.range.count, handle)
    }
  }

  /// Copies to pinned memory, which holds nothing of use until the copy is done.
  package func copy(_ part: CUDABuffer.Part, to target: PinnedBuffer.Part) throws(ComputeError) {
    try check(part.range.count, target.range.count, "cuMemcpyDtoHAsync")
    try device.call("cuMemcpyDtoHAsync") {
      unsafe $0.pointee.copy_to_host(target.address, part.address, part.range.count, handle)
    }
  }

  /// Copies within the device's memory.
  package func copy(_ part: CUDABuffer.Part, to target: CUDABuffer.Part) throws(ComputeError) {
    try check(part.range.count, target.range.count, "cuMemcpyDtoDAsync")
    try device.call("cuMemcpyDtoDAsync") {
      unsafe $0.pointee.copy_on_device(target.address, part.address, part.range.count, handle)
    }
  }

  /// Copies from any memory of the process, which may change when this returns.
  ///
  /// Slower than from pinned memory, and not while a graph is captured.
  @unsafe package func upload(
    _ bytes: UnsafeRawBufferPointer, to target: CUDABuffer.Part
  ) throws(ComputeError) {
    try check(bytes.count, target.range.count, "cuMemcpyHtoDAsync")
    try refuseCapture("a copy from memory that is not pinned")
    try device.call("cuMemcpyHtoDAsync") {
      unsafe $0.pointee.copy_to_device(target.address, bytes.baseAddress, bytes.count, handle)
    }
  }

  /// Copies to any memory of the process, and waits until it is there.
  @unsafe package func download(
    _ part: CUDABuffer.Part, to bytes: UnsafeMutableRawBufferPointer
  ) throws(ComputeError) {
    try check(part.range.count, bytes.count, "cuMemcpyDtoHAsync")
    try refuseCapture("a copy to memory that is not pinned")
    try device.call("cuMemcpyDtoHAsync") {
      unsafe $0.pointee.copy_to_host(bytes.baseAddress, part.address, part.range.count, handle)
    }
    try wait()
  }

  /// Sets every byte.
  package func fill(_ part: CUDABuffer.Part, with value: UInt8) throws(ComputeError) {
    try device.call("cuMemsetD8Async") {
      unsafe $0.pointee.fill_bytes(part.address, value, part.range.count, handle)
    }
  }

  private func check(_ count: Int, _ room: Int, _ call: StaticString) throws(ComputeError) {
    guard count == room else {
      throw ComputeError(
        .device, "\(call): \(count) bytes are to fill \(room); this is a mistake in the program")
    }
  }

  private func refuseCapture(_ what: String) throws(ComputeError) {
    guard !device.isCapturing else {
      throw ComputeError(
        .device, "\(what) cannot be part of a graph; this is a mistake in the program")
    }
  }

  // MARK: Graphs

  /// Records what `body` enqueues here instead of doing it.
  /// - Parameters:
  ///   - owned: memory and kernels whose addresses the graph will have, kept as long as it lives.
  ///   - body: enqueues; asks for no memory and waits for nothing.
  package func capture(
    keeping owned: [AnyObject], _ body: () throws(ComputeError) -> Void
  ) throws(ComputeError) -> CUDAGraph {
    try refuseCapture("a second capture")
    try device.call("cuStreamBeginCapture") {
      unsafe $0.pointee.capture_begin(handle, Int32(IHP_CU_CAPTURE_THREAD_LOCAL))
    }
    device.isCapturing = true
    var problem: ComputeError?
    do throws(ComputeError) {
      try body()
    } catch {
      problem = error
    }
    device.isCapturing = false
    // Ends in any case, or the stream would record for ever.
    var graph: OpaquePointer?
    let result = try device.attempt("cuStreamEndCapture") {
      unsafe $0.pointee.capture_end(handle, &graph)
    }
    defer {
      if let graph = unsafe graph {
        device.release("cuGraphDestroy") { unsafe $0.pointee.graph_destroy(graph) }
      }
    }
    if let problem { throw problem }
    guard result == 0, let recorded = unsafe graph else {
      throw device.driver.failure(result, "cuStreamEndCapture").error(device: device.facts.name)
    }
    return try unsafe CUDAGraph(recorded, device, keeping: owned)
  }
}
