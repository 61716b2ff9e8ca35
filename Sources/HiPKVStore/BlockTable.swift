// SPDX-License-Identifier: Apache-2.0

/// The blocks of one sequence, in order; grows at its end only.
public struct BlockTable: Sendable {
  /// Tokens in a block.
  public let blockSize: Int
  /// Bytes of a block in all layers.
  public let blockByteCount: Int
  /// The blocks, first tokens first; the last ones may still be empty.
  public private(set) var blocks: [BlockID] = []
  /// Tokens that are stored.
  public private(set) var length = 0

  /// An empty table.
  public init(blockSize: Int, blockByteCount: Int) {
    self.blockSize = blockSize
    self.blockByteCount = blockByteCount
  }

  /// What has to happen to blocks before tokens can be stored.
  public enum Change: Sendable, Hashable {
    /// The block at `place` is new.
    case added(place: Int, block: BlockID)
    /// The block at `place` was shared; `block`, its copy, takes its place.
    case copied(place: Int, from: BlockID, block: BlockID)

    /// The block that is written.
    public var block: BlockID {
      switch self {
      case .added(_, let block), .copied(_, _, let block): block
      }
    }

    /// Its place in the table.
    public var place: Int {
      switch self {
      case .added(let place, _), .copied(let place, _, _): place
      }
    }
  }

  /// Bytes that `reserve` would take from a pool for `count` more tokens.
  public func byteCount(toReserve count: Int, in pool: BlockPool) -> Int {
    let new = max(0, (length + count + blockSize - 1) / blockSize - blocks.count)
    return (new + (mustCopy(before: count, in: pool) ? 1 : 0)) * blockByteCount
  }

  /// Makes room for `count` more tokens: new blocks, and a copy of an unfinished one that is shared.
  /// - Returns: what has changed; nil, with nothing changed, when the pool lacks the bytes.
  public mutating func reserve(_ count: Int, from pool: inout BlockPool) -> [Change]? {
    guard byteCount(toReserve: count, in: pool) <= pool.freeByteCount else { return nil }
    var changes: [Change] = []
    if mustCopy(before: count, in: pool), let copy = pool.allocate(byteCount: blockByteCount) {
      let place = length / blockSize
      changes.append(.copied(place: place, from: blocks[place], block: copy))
      _ = pool.release(blocks[place])
      blocks[place] = copy
    }
    while blocks.count * blockSize < length + count,
      let block = pool.allocate(byteCount: blockByteCount)
    {
      changes.append(.added(place: blocks.count, block: block))
      blocks.append(block)
    }
    return changes
  }

  private func mustCopy(before count: Int, in pool: BlockPool) -> Bool {
    count > 0 && length % blockSize != 0 && pool.isShared(blocks[length / blockSize])
  }

  /// Takes back what `reserve` has just done; returns the blocks freed.
  public mutating func undo(_ changes: [Change], in pool: inout BlockPool) -> [BlockID] {
    for change in changes.reversed() {
      switch change {
      case .added: blocks.removeLast()
      case .copied(let place, let source, _):
        pool.retain(source)
        blocks[place] = source
      }
    }
    return changes.map(\.block).filter { pool.release($0) }
  }

  /// Counts `count` reserved tokens as stored.
  public mutating func advance(_ count: Int) {
    precondition(length + count <= blocks.count * blockSize, "tokens were not reserved")
    length += count
  }

  /// A second table over the same stored tokens.
  public func fork(in pool: inout BlockPool) -> BlockTable {
    var copy = self
    copy.blocks.removeLast(blocks.count - filledCount)
    for block in copy.blocks { pool.retain(block) }
    return copy
  }

  /// Puts another block, which the caller has retained, in a place; returns the old one when nobody uses it any more.
  public mutating func replace(
    place: Int, by block: BlockID, in pool: inout BlockPool
  ) -> BlockID? {
    let old = blocks[place]
    blocks[place] = block
    return pool.release(old) ? old : nil
  }

  /// Begins with full blocks of another sequence, which it shares; the table is empty.
  public mutating func adopt(_ shared: [BlockID], in pool: inout BlockPool) {
    precondition(blocks.isEmpty, "only an empty table takes another's blocks")
    for block in shared { pool.retain(block) }
    blocks = shared
    length = shared.count * blockSize
  }

  /// Blocks that hold a token.
  private var filledCount: Int { (length + blockSize - 1) / blockSize }

  /// Forgets the tokens from `newLength` on, and gives back the blocks that hold none.
  /// - Returns: the number of places given up and the blocks that nobody uses any more.
  public mutating func truncate(
    to newLength: Int, in pool: inout BlockPool
  ) -> (removedPlaces: Int, freed: [BlockID]) {
    precondition(newLength <= length)
    length = newLength
    let removed = blocks[filledCount...]
    let freed = removed.filter { pool.release($0) }
    blocks.removeLast(removed.count)
    return (removed.count, Array(freed))
  }
}
