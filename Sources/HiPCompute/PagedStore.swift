// SPDX-License-Identifier: Apache-2.0

public import HiPKVStore

/// A store whose keys and values are pages that come and go between the device's memory and a tier below.
///
/// Sketches stay in memory. Page `(layer * 2 + kind) * kvHeads + head` of a block holds the keys (kind 0) or the
/// values (1) of a head, `[blockSize, headSize]`. Called on the engine's thread.
public protocol PagedStore: AnyObject {
  /// Changes how many bytes of pages lie in memory at most.
  func resize(toByteCount byteCount: Int)
  /// Whether so many blocks can be written without another being stored below first.
  func hasRoom(forBlocks count: Int) -> Bool
  /// Brings all pages of a block into memory, where they stay until it is let go of.
  /// - Returns: where they lie, and the block's sketches.
  func hold(_ block: BlockID) throws(ComputeError) -> BlockContents
  /// Ends a `hold`.
  func letGo(_ block: BlockID)
  /// The block lies below, too: its pages may make room for others.
  func markStored(_ block: BlockID, at place: LowerPlace)
  /// Where a block lies below; nil where it does not.
  func lowerPlace(of block: BlockID) -> LowerPlace?
  /// The block, which has its slots, lies below only; its sketches come to memory now.
  /// - Parameter sketches: as `BlockContents` has them.
  func restore(_ block: BlockID, from place: LowerPlace, sketches: UnsafeRawBufferPointer)
  /// Brings all pages of a block into memory and forgets where they lie below, since it is going to be written.
  func makeWritable(_ block: BlockID) throws(ComputeError)
  /// What has been read so far.
  var traffic: PageTraffic { get }
}

/// What a block holds, where the device keeps it.
@safe public struct BlockContents {
  /// Addresses of its pages, valid while the block is held; nil: nobody will read the page again.
  public let pages: [UnsafeRawPointer?]
  /// `[sketch][layer that keeps sketches][kvHead]`.
  public let sketches: [UInt8]

  /// Stores the parts.
  public init(pages: [UnsafeRawPointer?], sketches: [UInt8]) {
    unsafe self.pages = pages
    self.sketches = sketches
  }
}

/// Where a block lies in the tier below.
public struct LowerPlace: Sendable {
  /// What reads it.
  public let tier: any LowerTier
  /// Its number there.
  public let block: Int

  /// Stores the parts.
  public init(tier: any LowerTier, block: Int) {
    self.tier = tier
    self.block = block
  }
}

/// Blocks below a device's memory; used by several threads at once.
public protocol LowerTier: AnyObject, Sendable {
  /// Whether something that was read was not what had been stored.
  var isDamaged: Bool { get }
  /// Where it lies, for messages.
  var location: String { get }
  /// Whether it has a page.
  func hasPage(_ page: Int, ofBlock block: Int) -> Bool
  /// Begins to read pages that `read` will be asked for.
  func prefetch(_ pages: [PageRead])
  /// Reads pages.
  /// - Throws: `damaged` when they are not what was stored.
  func read(_ pages: [PageRead]) throws(ComputeError)
}

/// A page, and where it is wanted.
@safe public struct PageRead {
  /// Number of the page in its block.
  public let page: Int
  /// Number of the block in its tier.
  public let block: Int
  /// Room for a page.
  public let destination: UnsafeMutableRawPointer

  /// Stores the parts.
  public init(page: Int, block: Int, destination: UnsafeMutableRawPointer) {
    self.page = page
    self.block = block
    unsafe self.destination = destination
  }
}

/// How often pages were where they were wanted.
public struct PageTraffic: Sendable, Hashable {
  /// Pages that were in memory when they were read, by layer.
  public var hits: [Int]
  /// Pages that came from below, by layer.
  public var misses: [Int]
  /// Bytes of pages in memory.
  public var residentByteCount = 0

  /// Nothing has been read yet.
  public init(layerCount: Int) {
    hits = .init(repeating: 0, count: layerCount)
    misses = hits
  }

  /// The share of reads that were served from memory; nil without any.
  public var hitRate: Double? {
    let (hit, missed) = (hits.reduce(0, +), misses.reduce(0, +))
    return hit + missed > 0 ? Double(hit) / Double(hit + missed) : nil
  }
}
