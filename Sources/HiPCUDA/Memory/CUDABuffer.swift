// SPDX-License-Identifier: Apache-2.0

package import HiPCompute

/// A part of a device's memory, aligned to 256 bytes; it goes back with its last reference.
package final class CUDABuffer: DeviceBuffer {
  package let byteCount: Int
  /// The device's address of its first byte.
  package let address: UInt64
  private let memory: DeviceMemory
  /// Bytes that it takes.
  private let size: Int

  init(_ memory: DeviceMemory, address: UInt64, byteCount: Int, size: Int) {
    self.memory = memory
    self.address = address
    self.byteCount = byteCount
    self.size = size
  }

  deinit { memory.giveBack(address, byteCount: byteCount, size: size) }

  /// Some of its bytes.
  package struct Part {
    let buffer: CUDABuffer
    let range: Range<Int>

    var address: UInt64 { buffer.address + UInt64(range.lowerBound) }
  }

  /// The bytes in `range`.
  package subscript(range: Range<Int>) -> Part {
    precondition(range.lowerBound >= 0 && range.upperBound <= byteCount)
    return Part(buffer: self, range: range)
  }

  /// All of its bytes.
  package var all: Part { self[0..<byteCount] }
}

extension DeviceTensor {
  /// The device's address of the first element.
  package var address: UInt64 { part.address }

  /// Its bytes.
  package var part: CUDABuffer.Part {
    precondition(
      type(of: buffer) == CUDABuffer.self, "a tensor of another device was given to the GPU")
    let buffer = unsafe unsafeDowncast(buffer, to: CUDABuffer.self)
    return buffer[offset..<offset + rows * rowByteCount]
  }
}
