// SPDX-License-Identifier: Apache-2.0

/// Where keys and values live: as much in memory as is allowed, the rest in files below.
public struct KVTiers: Sendable, Hashable {
  /// The most bytes of keys, values and sketches in memory; nil: what the machine has beside the weights.
  public var memoryByteCount: Int?
  /// The folder of files that hold what memory has no room for, and the beginnings of texts for later ones; nil: none.
  public var folder: String?
  /// The most bytes of those files.
  public var diskByteCount: Int
  /// The most bytes that are written to them in a day; 0: they are only read, nil: no limit.
  public var writesPerDay: Int?

  /// Memory, and files below it.
  public init(
    memoryByteCount: Int?, folder: String?, diskByteCount: Int, writesPerDay: Int? = nil
  ) {
    self.memoryByteCount = memoryByteCount
    self.folder = folder
    self.diskByteCount = diskByteCount
    self.writesPerDay = writesPerDay
  }

  /// The folder, where files may be.
  var usedFolder: String? { diskByteCount > 0 ? folder : nil }
}

/// What tiers have done so far.
public struct KVTierStatistics: Sendable, Hashable {
  /// Pages that were in memory when they were read, by layer.
  public let hits: [Int]
  /// Pages that came from below, by layer.
  public let misses: [Int]
  /// Bytes that came from files.
  public let bytesRead: Int
  /// Bytes that went to files.
  public let bytesWritten: Int
  /// Bytes of keys, values and sketches in memory.
  public let memoryByteCount: Int
  /// Bytes of the files.
  public let diskByteCount: Int

  /// The share of reads that memory served; nil without any.
  public var hitRate: Double? {
    let (hit, missed) = (hits.reduce(0, +), misses.reduce(0, +))
    return hit + missed > 0 ? Double(hit) / Double(hit + missed) : nil
  }
}
