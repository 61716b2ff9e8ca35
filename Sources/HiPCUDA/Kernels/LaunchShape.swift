// SPDX-License-Identifier: Apache-2.0

/// How many blocks of how many threads run a kernel, and what they share.
package struct LaunchShape: Sendable, Hashable {
  package var grid: Extent
  package var block: Extent
  /// Bytes of shared memory that a block has besides the kernel's own.
  package var sharedByteCount: Int
  /// Blocks that run side by side and see each other's shared memory; nil: each for itself.
  package var cluster: Extent?
  /// Whether it may begin before the work in front of it is done; the kernel then waits for that itself
  /// (`griddepcontrol.wait`).
  package var overlapsPrevious: Bool

  /// Counts in three dimensions.
  package struct Extent: Sendable, Hashable {
    package var x, y, z: Int

    package init(_ x: Int, _ y: Int = 1, _ z: Int = 1) {
      self.x = x
      self.y = y
      self.z = z
    }

    var count: Int { x * y * z }
  }

  /// Whether its blocks wait for one another, so that the device has to hold all of them at once.
  package var isCooperative: Bool

  package init(
    grid: Extent, block: Extent, sharedByteCount: Int = 0, cluster: Extent? = nil,
    overlapsPrevious: Bool = false, isCooperative: Bool = false
  ) {
    self.isCooperative = isCooperative
    self.grid = grid
    self.block = block
    self.sharedByteCount = sharedByteCount
    self.cluster = cluster
    self.overlapsPrevious = overlapsPrevious
  }
}
