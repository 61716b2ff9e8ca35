// SPDX-License-Identifier: Apache-2.0

public import HiPCompute
internal import HiPKVStore

/// The blocks of all sequences of a device, whatever their formats: one budget in bytes.
///
/// Belongs to the engine's thread, as everything below does.
public final class SharedBlocks {
  var pool: BlockPool

  /// No blocks yet, and room for so many bytes of them.
  public init(capacity: Int) { pool = BlockPool(capacity: capacity) }

  /// Bytes that blocks may take.
  public var capacity: Int { pool.capacity }
  /// Bytes that blocks take.
  public var usedByteCount: Int { pool.usedByteCount }
}

/// The keys, values and selections of one sequence.
///
/// Gives its blocks back when it goes.
public final class SequenceCache {
  /// The memory of its blocks.
  public let store: any KVStore
  private let shared: SharedBlocks
  private var blocks: BlockTable
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
      blockSize: store.format.blockSize, blockByteCount: store.format.keptBlockByteCount)
    table = store.makeTable()
    selection = store.makeSelectionState()
    heavyHitters = store.makeHeavyHitterState()
  }

  private init(forking other: SequenceCache) {
    store = other.store
    shared = other.shared
    blocks = other.blocks.fork(in: &other.shared.pool)
    releasedCount = other.releasedCount
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
      for change in changes {
        try store.provide(change.block)
        provided.append(change.block)
      }
    } catch {
      _ = blocks.undo(changes, in: &shared.pool)
      for block in provided { store.discard(block) }
      throw error
    }
    for change in changes {
      if case .copied(_, let source, let block) = change { store.copy(from: source, to: block) }
      table.set(place: change.place, to: change.block)
    }
  }

  /// Its full blocks, as far as tokens are stored.
  var fullBlocks: [BlockID] { Array(blocks.blocks.prefix(length / blocks.blockSize)) }

  /// Begins with blocks that another sequence has filled; this one is empty.
  func adopt(_ shared: [BlockID]) {
    blocks.adopt(shared, in: &self.shared.pool)
    for (place, block) in shared.enumerated() { table.set(place: place, to: block) }
    releasedCount = store.format.sliding.map { max(0, length - $0.window) / blocks.blockSize } ?? 0
  }

  /// Counts `count` reserved tokens as stored, and lets go of what lies behind the windows of sliding layers now.
  public func advance(_ count: Int) {
    blocks.advance(count)
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
    if length == 0 { releasedCount = 0 }
    table.removeLast(removed)
    for block in freed { store.discard(block) }
  }
}
