// SPDX-License-Identifier: Apache-2.0

import Foundation
import InfiniteHiP

/// What tiers have done, as commands print it.
struct TierOutput: Encodable {
  let hitRate: Double?
  let hits: [Int]
  let misses: [Int]
  let bytesRead: Int
  let bytesWritten: Int
  let memoryBytes: Int
  let diskBytes: Int

  init(_ statistics: KVTierStatistics) {
    hitRate = statistics.hitRate
    hits = statistics.hits
    misses = statistics.misses
    bytesRead = statistics.bytesRead
    bytesWritten = statistics.bytesWritten
    memoryBytes = statistics.memoryByteCount
    diskBytes = statistics.diskByteCount
  }
}

/// Time since the process began.
enum ProcessClock {
  private static let start = ContinuousClock.now

  /// Begins to count, where that has not happened yet.
  static func begin() { _ = start }

  /// Seconds since then.
  static var seconds: Double { (ContinuousClock.now - start).seconds }
}
