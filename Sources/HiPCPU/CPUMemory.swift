// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPTensors

/// Memory of the process, or of a mapped file, as a device buffer.
final class CPUBuffer: DeviceBuffer {
  let byteCount: Int
  let bytes: UnsafeMutableRawPointer
  private let owner: Owner

  private enum Owner: ~Copyable {
    case allocation(HostBuffer<UInt8>)
    case file(MappedFile)
  }

  init(byteCount: Int) throws(MemoryError) {
    self.byteCount = byteCount
    let buffer = try HostBuffer<UInt8>(count: byteCount)
    // A HostBuffer is never empty.
    bytes = UnsafeMutableRawPointer(buffer.elements.baseAddress.unsafelyUnwrapped)
    owner = .allocation(buffer)
  }

  init(_ mapped: MappedRange) {
    byteCount = mapped.range.count
    // Weights are only read; a buffer has one kind of pointer for all its uses.
    bytes = UnsafeMutableRawPointer(
      mutating: mapped.file.bytes.baseAddress.unsafelyUnwrapped + mapped.range.lowerBound)
    owner = .file(mapped.file)
  }
}

extension DeviceTensor {
  /// The first byte.
  var bytes: UnsafeMutableRawPointer {
    precondition(
      type(of: buffer) == CPUBuffer.self, "a tensor of another device was given to the CPU")
    return unsafeDowncast(buffer, to: CPUBuffer.self).bytes + offset
  }

  var floats: UnsafeMutablePointer<Float> {
    precondition(element == .float32, "a float32 tensor was expected")
    return bytes.assumingMemoryBound(to: Float.self)
  }

  func floats(row: Int) -> UnsafeMutablePointer<Float> { floats + row * columns }
}
