// SPDX-License-Identifier: Apache-2.0

package import HiPAttention
public import HiPCompute
internal import HiPKVStore

/// Pages that the sequences of one model share.
///
/// Belongs to the engine's thread, as everything that it hands out does.
public final class CachePool {
  /// The device.
  public let backend: any ComputeBackend
  /// The pages' memory.
  public let store: any PageStore
  fileprivate var pool = PagePool()

  /// An empty pool for pages of this layout.
  public init(backend: any ComputeBackend, layout: KVLayout) {
    self.backend = backend
    store = backend.makePageStore(layout)
  }
}

/// The keys, values and selections of one sequence.
///
/// Gives its pages back when it goes.
public final class SequenceCache {
  let pool: CachePool
  private var table: PageTable
  let pages: any DevicePageTable
  /// One per layer.
  package let selections: [any SelectionState]
  /// Decoding steps since the last prefill: what the refresh intervals count.
  var decodingStep = 0
  /// Where an answer looks; nil: everywhere.
  package private(set) var focused: Focused?

  /// What an answer goes by.
  package struct Focused {
    /// What the question drew on.
    let question: PassageVotes
    package var passages: Passages
    /// Tokens written since the question.
    var writtenCount = 0
  }

  /// Looks somewhere; at no passages at all, everywhere.
  func look(at focused: Focused?) {
    self.focused = focused?.passages.starts.isEmpty == true ? nil : focused
  }

  /// An empty sequence.
  public init(pool: CachePool) {
    self.pool = pool
    table = PageTable(pageSize: KVLayout.pageSize)
    pages = pool.store.makeTable()
    selections = (0..<pool.store.layout.layerCount).map { _ in pool.backend.makeSelectionState() }
  }

  private init(forking other: SequenceCache) {
    pool = other.pool
    table = other.table.fork(in: &other.pool.pool)
    pages = pool.store.makeTable()
    for (slot, page) in table.pages.enumerated() { pages.set(slot: slot, to: page) }
    selections = other.selections.map { $0.copy() }
    focused = other.focused
  }

  deinit {
    for page in table.releaseAll(to: &pool.pool) { pool.store.discard(page) }
  }

  /// Tokens whose keys and values are stored.
  public var length: Int { table.length }

  /// The keys and values of one layer.
  public func view(layer: Int) -> KVView { KVView(pages: pages, layer: layer) }

  /// A second sequence that begins with the same tokens and shares their pages.
  public func fork() -> SequenceCache { SequenceCache(forking: self) }

  /// Makes room for `count` more tokens.
  /// - Throws: when memory runs out; the sequence is then as it was.
  public func reserve(_ count: Int) throws(ComputeError) {
    let changes = table.reserve(count, from: &pool.pool)
    do {
      // All memory first: a page is written to only when every page is there.
      for change in changes { try pool.store.provide(change.page) }
    } catch {
      for page in table.undo(changes, in: &pool.pool) { pool.store.discard(page) }
      throw error
    }
    for change in changes {
      if case .copied(_, let source, let page) = change { pool.store.copy(from: source, to: page) }
      pages.set(slot: change.slot, to: change.page)
    }
  }

  /// Counts `count` reserved tokens as stored.
  func advance(_ count: Int) { table.advance(count) }

  /// Forgets the tokens from `length` on.
  public func truncate(to length: Int) {
    let (removedSlots, freed) = table.truncate(to: length, in: &pool.pool)
    pages.removeLast(removedSlots)
    for page in freed { pool.store.discard(page) }
    decodingStep = 0
    focused = nil
    for selection in selections { selection.clear() }
  }
}
