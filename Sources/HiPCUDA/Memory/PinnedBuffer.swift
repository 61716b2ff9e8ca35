// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPCompute

/// Memory of the process that a device copies from and to by itself; it goes back with its last reference.
@safe package final class PinnedBuffer {
  /// The caller orders what host and device do with them.
  package let bytes: UnsafeMutableRawBufferPointer
  private let memory: DeviceMemory

  init(_ memory: DeviceMemory, byteCount: Int) throws(ComputeError) {
    var address: UnsafeMutableRawPointer?
    let device = memory.device
    let result = try device.attempt("cuMemHostAlloc", "\(byteCount) bytes") {
      unsafe $0.pointee.host_allocate(&address, max(1, byteCount), UInt32(IHP_CU_HOST_PORTABLE))
    }
    guard result == 0 else {
      let failure = device.driver.failure(result, "cuMemHostAlloc", "\(byteCount) bytes")
      guard result == Int32(IHP_CU_OUT_OF_MEMORY) else {
        throw failure.error(device: device.facts.name)
      }
      throw ComputeError(
        .outOfMemory(neededBytes: byteCount),
        "there is no memory that stays in place for the GPU to copy \(byteCount) bytes from: \(failure). Close other "
          + "programs, or raise the limit of locked memory (ulimit -l)", cause: failure)
    }
    self.memory = memory
    unsafe bytes = UnsafeMutableRawBufferPointer(start: address, count: byteCount)
    unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit {
    memory.countFreedPinned(unsafe bytes.count)
    memory.device.release("cuMemFreeHost") { unsafe $0.pointee.host_free(bytes.baseAddress) }
  }

  /// Some of its bytes.
  package struct Part {
    let buffer: PinnedBuffer
    let range: Range<Int>

    var address: UnsafeMutableRawPointer? {
      unsafe buffer.bytes.baseAddress?.advanced(by: range.lowerBound)
    }
  }

  /// The bytes in `range`.
  package subscript(range: Range<Int>) -> Part {
    precondition(unsafe range.lowerBound >= 0 && range.upperBound <= bytes.count)
    return Part(buffer: self, range: range)
  }

  /// All of its bytes.
  package var all: Part { self[0..<(unsafe bytes.count)] }
}
