// SPDX-License-Identifier: Apache-2.0

/// The number of a block of the KV cache: the keys and values of all layers for a run of tokens.
///
/// It says nothing about where they lie: the device keeps a slot for it in each layer.
public struct BlockID: Sendable, Hashable {
  /// Small numbers are used again first.
  public let index: Int

  /// Wraps a number.
  public init(index: Int) { self.index = index }
}

/// Which blocks are in use, and by how many sequences; bounded in bytes, whatever their formats.
///
/// All sequences of a device share one pool, so that together they never take more than it has.
public struct BlockPool: Sendable {
  /// Bytes that all blocks together may take.
  public let capacity: Int
  /// Bytes that the blocks in use take.
  public private(set) var usedByteCount = 0
  private var entries: [Entry] = []
  private var free: [Int] = []

  private struct Entry {
    var references: Int
    var byteCount: Int
  }

  /// An empty pool of so many bytes.
  public init(capacity: Int) { self.capacity = max(0, capacity) }

  /// Number of blocks that some sequence uses.
  public var usedCount: Int { entries.count - free.count }

  /// Bytes that are left.
  public var freeByteCount: Int { capacity - usedByteCount }

  /// Hands out a block with one reference; nil when its bytes are not left.
  public mutating func allocate(byteCount: Int) -> BlockID? {
    guard byteCount <= freeByteCount else { return nil }
    usedByteCount += byteCount
    let entry = Entry(references: 1, byteCount: byteCount)
    if let index = free.popLast() {
      entries[index] = entry
      return BlockID(index: index)
    }
    entries.append(entry)
    return BlockID(index: entries.count - 1)
  }

  /// Adds a reference to a block in use.
  public mutating func retain(_ block: BlockID) {
    precondition(entries[block.index].references > 0, "block \(block.index) is free")
    entries[block.index].references += 1
  }

  /// Drops a reference; true when it was the last and the block is free now.
  public mutating func release(_ block: BlockID) -> Bool {
    precondition(entries[block.index].references > 0, "block \(block.index) is free")
    entries[block.index].references -= 1
    guard entries[block.index].references == 0 else { return false }
    usedByteCount -= entries[block.index].byteCount
    free.append(block.index)
    return true
  }

  /// Whether several sequences use the block, so that none may write it.
  public func isShared(_ block: BlockID) -> Bool { entries[block.index].references > 1 }
}
