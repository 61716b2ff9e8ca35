// SPDX-License-Identifier: Apache-2.0

package import HiPCompute

/// A part of a device's memory, aligned to 256 bytes where it is no part of another one; it goes back with its last
/// reference.
package final class CUDABuffer: DeviceBuffer {
  package let byteCount: Int
  /// The device's address of its first byte.
  package let address: UInt64
  private let owner: Owner

  private enum Owner {
    /// It takes so many bytes there.
    case memory(DeviceMemory, size: Int)
    case whole(CUDABuffer)
  }

  init(_ memory: DeviceMemory, address: UInt64, byteCount: Int, size: Int) {
    owner = .memory(memory, size: size)
    self.address = address
    self.byteCount = byteCount
  }

  /// Some bytes of another one as a buffer of their own, which keeps the other one.
  package init(_ range: Range<Int>, of whole: CUDABuffer) {
    precondition(range.lowerBound >= 0 && range.upperBound <= whole.byteCount)
    owner = .whole(whole)
    address = whole.address + UInt64(range.lowerBound)
    byteCount = range.count
  }

  deinit {
    guard case .memory(let memory, let size) = owner else { return }
    memory.giveBack(address, byteCount: byteCount, size: size)
  }

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
