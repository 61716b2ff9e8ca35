// SPDX-License-Identifier: Apache-2.0

public import HiPCompute
package import HiPKVStore

/// The keys, values and selections of one sequence.
///
/// Gives its blocks back when it goes.
public final class SequenceCache {
  /// The memory of its blocks.
  public let store: any KVStore
  private let shared: SharedBlocks
  private var blocks: BlockTable
  /// The tokens whose keys and values are stored.
  package private(set) var tokens: [Int32] = []
  /// First blocks that lie behind every window of the sliding layers.
  private(set) var releasedCount = 0
  /// Its blocks as the device sees them.
  public let table: any DeviceBlockTable
  /// What it has selected, in all layers.
  public let selection: any SelectionState
  /// The keys that it holds under H2O, in all layers.
  package var heavyHitters: any HeavyHitterState

  /// An empty sequence.
  public init(store: any KVStore, blocks shared: SharedBlocks) {
    self.store = store
    self.shared = shared
    blocks = BlockTable(
      blockSize: store.format.blockSize, blockByteCount: shared.blockByteCount(in: store))
    table = store.makeTable()
    selection = store.makeSelectionState()
    heavyHitters = store.makeHeavyHitterState()
  }

  private init(forking other: SequenceCache) {
    store = other.store
    shared = other.shared
    blocks = other.blocks.fork(in: &other.shared.pool)
    releasedCount = other.releasedCount
    tokens = other.tokens
    table = store.makeTable()
    for (place, block) in blocks.blocks.enumerated() { table.set(place: place, to: block) }
    selection = other.selection.copy()
    heavyHitters = other.heavyHitters.copy()
  }

  deinit {
    for block in blocks.truncate(to: 0, in: &shared.pool).freed { store.discard(block) }
  }

  /// Tokens whose keys and values are stored.
  public var length: Int { blocks.length }

  /// Bytes that are missing for `count` more tokens; 0 where they fit.
  public func missingByteCount(for count: Int) -> Int {
    max(0, blocks.byteCount(toReserve: count, in: shared.pool) - shared.pool.freeByteCount)
  }

  /// A second sequence that begins with the same tokens and shares their blocks.
  public func fork() -> SequenceCache { SequenceCache(forking: self) }

  /// Makes room for `count` more tokens.
  ///
  /// Above a lower tier that is room for sketches; pages find theirs as they are written.
  /// - Throws: when memory runs out; the sequence is then as it was.
  public func reserve(_ count: Int) throws(ComputeError) {
    let needed = blocks.byteCount(toReserve: count, in: shared.pool)
    guard let changes = blocks.reserve(count, from: &shared.pool) else {
      throw ComputeError(
        .outOfMemory(neededBytes: needed),
        "\(count) more tokens take \(needed >> 20) MB of keys and values, and "
          + "\(shared.pool.freeByteCount >> 20) MB of \(shared.pool.capacity >> 20) are free; shorten the "
          + "text, or end other sessions")
    }
    var provided: [BlockID] = []
    do {
      // All memory first: a block is written only when every block is there.
      try store.provide(changes.map(\.block))
      provided = changes.map(\.block)
      for case .copied(_, let source, let block) in changes {
        try store.copy(from: source, to: block)
      }
      if count > 0, let paged = store.paged, length % blocks.blockSize != 0 {
        let block = blocks.blocks[length / blocks.blockSize]
        if paged.lowerPlace(of: block) != nil { try paged.makeWritable(block) }
      }
    } catch {
      _ = blocks.undo(changes, in: &shared.pool)
      for block in provided { store.discard(block) }
      throw error
    }
    for change in changes { table.set(place: change.place, to: change.block) }
    if !changes.isEmpty { shared.balance() }
  }

  /// Its full blocks, as far as tokens are stored.
  package var fullBlocks: [BlockID] { Array(blocks.blocks.prefix(length / blocks.blockSize)) }

  /// Its blocks that hold a token.
  package var filledBlocks: [BlockID] {
    Array(blocks.blocks.prefix((length + blocks.blockSize - 1) / blocks.blockSize))
  }

  /// All its blocks, with those that hold no token yet.
  package var reservedBlocks: [BlockID] { blocks.blocks }

  /// Keeps a block from being used anew until it is let go of.
  package func retain(_ block: BlockID) { shared.pool.retain(block) }

  /// Begins with blocks that another sequence has filled with `tokens`; this one is empty.
  func adopt(_ shared: [BlockID], _ tokens: ArraySlice<Int32>) {
    blocks.adopt(shared, in: &self.shared.pool)
    self.tokens = Array(tokens)
    for (place, block) in shared.enumerated() { table.set(place: place, to: block) }
    releasedCount = store.format.sliding.map { max(0, length - $0.window) / blocks.blockSize } ?? 0
  }

  /// Takes blocks of another sequence, which hold the same tokens, in the place of its own.
  package func replace(_ places: Range<Int>, from other: SequenceCache) {
    for place in places {
      let block = other.blocks.blocks[place]
      shared.pool.retain(block)
      if let freed = blocks.replace(place: place, by: block, in: &shared.pool) {
        store.discard(freed)
      }
      table.set(place: place, to: block)
    }
  }

  /// Counts reserved tokens as stored, and lets go of what lies behind the windows of sliding layers now.
  public func advance(_ stored: some Collection<Int32>) {
    tokens += stored
    blocks.advance(stored.count)
    guard let sliding = store.format.sliding else { return }
    let end = max(0, length - sliding.window) / blocks.blockSize
    guard end > releasedCount else { return }
    for block in blocks.blocks[releasedCount..<end] where !shared.pool.isShared(block) {
      store.releaseSliding(block)
    }
    releasedCount = end
  }

  /// Gives back what was reserved and holds no token.
  public func trim() { cut(to: length) }

  /// Forgets the tokens from `length` on, and every selection.
  public func truncate(to length: Int) {
    cut(to: length)
    selection.clear()
    heavyHitters.clear()
  }

  private func cut(to length: Int) {
    let (removed, freed) = blocks.truncate(to: length, in: &shared.pool)
    tokens.removeLast(tokens.count - length)
    if length == 0 { releasedCount = 0 }
    table.removeLast(removed)
    for block in freed { store.discard(block) }
    if !freed.isEmpty { shared.balance() }
  }
}
