// SPDX-License-Identifier: Apache-2.0

/// What a device says of itself.
package struct DeviceFacts: Sendable, Hashable {
  package let name: String
  /// Its compute capability.
  package let capability: Capability
  /// Bytes of memory, used or not.
  package let memoryByteCount: Int
  package let multiprocessorCount: Int
  /// Bytes of the second-level cache.
  package let cacheByteCount: Int
  /// The most bytes of shared memory that a block may have.
  package let sharedByteCount: Int
  package let clockHertz: Double
  /// Bytes a second that clock and width of the memory come to; what is reached is less.
  package let peakBandwidth: Double

  /// A compute capability, as 9.0.
  package struct Capability: Sendable, Hashable, Comparable, CustomStringConvertible {
    package let major: Int
    package let minor: Int

    package init(_ major: Int, _ minor: Int) {
      self.major = major
      self.minor = minor
    }

    package static func < (left: Capability, right: Capability) -> Bool {
      (left.major, left.minor) < (right.major, right.minor)
    }

    package var description: String { "\(major).\(minor)" }
  }
}
