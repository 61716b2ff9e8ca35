// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute

/// Pinned memory that the results of a step are copied to, kept from step to step.
final class PinnedStaging {
  private let memory: DeviceMemory
  private var buffers: [PinnedBuffer] = []
  /// The buffer that parts are taken from, and how much of it is taken.
  private var (current, used) = (0, 0)

  /// Bytes of a buffer at least, and of all buffers that are kept at most.
  private static let leastByteCount = 1 << 20
  private static let keptByteCount = 256 << 20

  init(_ memory: DeviceMemory) { self.memory = memory }

  /// Bytes that nobody else has until `reset`.
  func take(_ byteCount: Int) throws(ComputeError) -> PinnedBuffer.Part {
    while current < buffers.count {
      let size = unsafe buffers[current].bytes.count
      if used + byteCount <= size {
        defer { used += (byteCount + 255) / 256 * 256 }
        return buffers[current][used..<used + byteCount]
      }
      (current, used) = (current + 1, 0)
    }
    buffers.append(try memory.allocatePinned(byteCount: max(byteCount, Self.leastByteCount)))
    used = (byteCount + 255) / 256 * 256
    return buffers[current][0..<byteCount]
  }

  /// Takes all parts back.
  func reset() {
    (current, used) = (0, 0)
    if buffers.reduce(0, { unsafe $0 + $1.bytes.count }) > Self.keptByteCount {
      buffers = []
    }
  }
}
