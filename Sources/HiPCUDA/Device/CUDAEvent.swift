// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPCompute

/// A point in a stream's work.
@safe package final class CUDAEvent {
  let device: CUDADevice
  let handle: OpaquePointer

  /// Makes an event that marks nothing yet.
  /// - Parameter measuresTime: whether the time between two of them is wanted; others cost less.
  package init(_ device: CUDADevice, measuresTime: Bool = false) throws(ComputeError) {
    var handle: OpaquePointer?
    let flags = UInt32(measuresTime ? 0 : IHP_CU_EVENT_WITHOUT_TIME)
    try device.call("cuEventCreate") { unsafe $0.pointee.event_create(&handle, flags) }
    self.device = device
    unsafe self.handle = try device.made(handle, "cuEventCreate")
  }

  deinit { device.release("cuEventDestroy") { unsafe $0.pointee.event_destroy(handle) } }

  /// Waits until all work before it is done.
  package func wait() throws(ComputeError) {
    try device.call("cuEventSynchronize") { unsafe $0.pointee.event_wait(handle) }
  }

  /// Seconds from another event to this one; both must measure time and be reached.
  package func seconds(since start: CUDAEvent) throws(ComputeError) -> Double {
    var milliseconds: Float = 0
    try device.call("cuEventElapsedTime") {
      unsafe $0.pointee.event_elapsed(&milliseconds, start.handle, handle)
    }
    return Double(milliseconds) / 1000
  }
}

extension CUDADevice {
  /// A handle that a successful call has made.
  func made(_ handle: OpaquePointer?, _ name: StaticString) throws(ComputeError) -> OpaquePointer {
    guard let handle = unsafe handle else {
      throw ComputeError(.device, "\(name) of the NVIDIA driver reports success and makes nothing")
    }
    return unsafe handle
  }
}
