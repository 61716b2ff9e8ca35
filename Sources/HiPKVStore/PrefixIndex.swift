// SPDX-License-Identifier: Apache-2.0

/// Which full blocks hold which beginnings of texts, so that the same beginning is computed once.
///
/// A block is found by a hash over its own tokens and all before it. The tokens are compared too: equal
/// hashes alone never make one text stand for another. Whoever puts blocks in keeps a reference to them.
public struct PrefixIndex: Sendable {
  /// Tokens in a block.
  public let blockSize: Int
  private var entries: [UInt64: Entry] = [:]
  private var hashes: [BlockID: UInt64] = [:]
  /// Counts uses, so that the least recent is known.
  private var clock = 0

  private struct Entry {
    let block: BlockID
    /// Hash of the block before; equal for equal beginnings.
    let parent: UInt64
    let tokens: [Int32]
    /// Blocks before it.
    let depth: Int
    var children: Set<UInt64> = []
    var lastUse: Int
  }

  /// An empty index.
  ///
  /// `seed` tells apart what may never share blocks, such as two formats.
  public init(blockSize: Int, seed: UInt64 = 0) {
    self.blockSize = blockSize
    root = seed &+ 0xcbf2_9ce4_8422_2325
  }

  private let root: UInt64

  /// Number of blocks in the index.
  public var count: Int { entries.count }

  /// The longest known run of blocks that `tokens` begins with.
  public func match(_ tokens: some RandomAccessCollection<Int32>) -> [BlockID] {
    path(of: tokens).map(\.block)
  }

  private func path(of tokens: some RandomAccessCollection<Int32>) -> [(
    hash: UInt64, block: BlockID
  )] {
    var found: [(hash: UInt64, block: BlockID)] = []
    var parent = root
    for part in parts(of: tokens) {
      let hash = Self.hash(part, after: parent)
      guard let entry = entries[hash], entry.parent == parent, entry.tokens == part else { break }
      found.append((hash, entry.block))
      parent = hash
    }
    return found
  }

  /// Tokens that `tokens` has in common with the known text that is most like it.
  public func commonLength(with tokens: some RandomAccessCollection<Int32>) -> Int {
    let path = path(of: tokens)
    let known = path.count * blockSize
    let rest = Array(tokens.dropFirst(known).prefix(blockSize))
    let children =
      path.last.map { entries[$0.hash]?.children ?? [] }
      ?? Set(entries.filter { $0.value.parent == root }.keys)
    let shared = children.compactMap { entries[$0] }.map { child in
      zip(child.tokens, rest).prefix { $0 == $1 }.count
    }
    return known + (shared.max() ?? 0)
  }

  /// Notes that the blocks of the longest known run are in use.
  public mutating func touch(_ tokens: some RandomAccessCollection<Int32>) {
    clock += 1
    for step in path(of: tokens) { entries[step.hash]?.lastUse = clock }
  }

  /// Puts in the full blocks of `tokens`, which lie in `blocks`.
  /// - Returns: those that were not known, and that the caller now keeps a reference to.
  public mutating func insert(
    _ tokens: some RandomAccessCollection<Int32>, blocks: [BlockID]
  ) -> [BlockID] {
    clock += 1
    var new: [BlockID] = []
    var parent = root
    for (depth, (part, block)) in zip(parts(of: tokens), blocks).enumerated() {
      let hash = Self.hash(part, after: parent)
      if let entry = entries[hash] {
        // Another text with the same hash: it keeps its place.
        guard entry.parent == parent, entry.tokens == part else { return new }
        entries[hash]?.lastUse = clock
      } else {
        entries[hash] = Entry(
          block: block, parent: parent, tokens: part, depth: depth, lastUse: clock)
        entries[parent]?.children.insert(hash)
        hashes[block] = hash
        new.append(block)
      }
      parent = hash
    }
    return new
  }

  /// The blocks that were used least recently, ends of texts first: whatever is taken out in this order leaves
  /// nothing behind it that cannot be found.
  public func leastRecent() -> [BlockID] {
    entries.values.sorted {
      $0.lastUse != $1.lastUse ? $0.lastUse < $1.lastUse : $0.depth > $1.depth
    }.map(\.block)
  }

  /// Takes a block out; those behind it are found no more, and come out too.
  /// - Returns: every block that has come out.
  public mutating func remove(_ block: BlockID) -> [BlockID] {
    guard let hash = hashes[block], let entry = entries[hash] else { return [] }
    entries[entry.parent]?.children.remove(hash)
    var removed: [BlockID] = []
    var waiting = [hash]
    while let hash = waiting.popLast() {
      guard let entry = entries.removeValue(forKey: hash) else { continue }
      hashes[entry.block] = nil
      removed.append(entry.block)
      waiting += entry.children
    }
    return removed
  }

  private func parts(of tokens: some RandomAccessCollection<Int32>) -> [[Int32]] {
    let tokens = Array(tokens)
    return stride(from: 0, to: tokens.count - blockSize + 1, by: blockSize).map {
      Array(tokens[$0..<$0 + blockSize])
    }
  }

  /// FNV-1a over the tokens, and a mix so that all bits matter.
  private static func hash(_ tokens: [Int32], after parent: UInt64) -> UInt64 {
    var hash = parent ^ 0x9e37_79b9_7f4a_7c15
    for token in tokens { hash = (hash ^ UInt64(UInt32(bitPattern: token))) &* 0x100_0000_01b3 }
    hash ^= hash >> 32
    return hash &* 0xd6e8_feb8_6659_fd93
  }
}
