// SPDX-License-Identifier: Apache-2.0

/// What has been taken of a device's memory and of pinned memory, to the byte.
package struct MemoryAccount: Sendable, Hashable {
  /// Times that the driver was asked for memory and gave it.
  package var allocations = 0
  /// Buffers that somebody holds.
  package var bufferCount = 0
  /// Bytes that their owners asked for.
  package var requestedByteCount = 0
  /// Bytes that they take.
  package var usedByteCount = 0
  /// Bytes that nobody holds, kept for the next who asks.
  package var cachedByteCount = 0
  /// The most that was ever taken of the device, used and cached.
  package var peakByteCount = 0
  /// Bytes of pinned memory.
  package var pinnedByteCount = 0

  package init() {}

  /// Bytes taken of the device.
  package var reservedByteCount: Int { usedByteCount + cachedByteCount }
}
