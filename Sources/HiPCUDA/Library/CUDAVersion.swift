// SPDX-License-Identifier: Apache-2.0

/// A version of CUDA, as drivers and libraries count them.
package struct CUDAVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
  package let major: Int
  package let minor: Int

  package init(_ major: Int, _ minor: Int) {
    self.major = major
    self.minor = minor
  }

  /// Reads 1000 * major + 10 * minor.
  init(number: Int) { self.init(number / 1000, number % 1000 / 10) }

  package static func < (left: CUDAVersion, right: CUDAVersion) -> Bool {
    (left.major, left.minor) < (right.major, right.minor)
  }

  package var description: String { "\(major).\(minor)" }
}
