// SPDX-License-Identifier: Apache-2.0

/// The pages of one sequence, in order; grows at its end only.
public struct PageTable: Sendable {
  /// Tokens in a page.
  public let pageSize: Int
  /// The pages, first tokens first.
  public private(set) var pages: [PageID] = []
  /// Tokens that are stored.
  public private(set) var length = 0

  /// An empty table.
  public init(pageSize: Int) { self.pageSize = pageSize }

  /// What has to happen to pages before tokens can be written.
  public enum Change: Sendable, Hashable {
    /// The page at `slot` is new.
    case added(slot: Int, page: PageID)
    /// The page at `slot` was shared; `page`, its copy, takes its place.
    case copied(slot: Int, from: PageID, page: PageID)

    /// The page that is written.
    public var page: PageID {
      switch self {
      case .added(_, let page), .copied(_, _, let page): page
      }
    }

    /// Its place in the table.
    public var slot: Int {
      switch self {
      case .added(let slot, _), .copied(let slot, _, _): slot
      }
    }
  }

  /// Takes back what `reserve` has just done; returns the pages freed.
  public mutating func undo(_ changes: [Change], in pool: inout PagePool) -> [PageID] {
    for change in changes.reversed() {
      switch change {
      case .added: pages.removeLast()
      case .copied(let slot, let source, _):
        pool.retain(source)
        pages[slot] = source
      }
    }
    return changes.map(\.page).filter { pool.release($0) }
  }

  /// Makes room for `count` more tokens: new pages, and a copy of the last one if it is shared.
  public mutating func reserve(_ count: Int, from pool: inout PagePool) -> [Change] {
    var changes: [Change] = []
    if length % pageSize != 0, count > 0, let last = pages.last, pool.isShared(last) {
      let copy = pool.allocate()
      _ = pool.release(last)
      pages[pages.count - 1] = copy
      changes.append(.copied(slot: pages.count - 1, from: last, page: copy))
    }
    while pages.count * pageSize < length + count {
      let page = pool.allocate()
      changes.append(.added(slot: pages.count, page: page))
      pages.append(page)
    }
    return changes
  }

  /// Counts `count` reserved tokens as written.
  public mutating func advance(_ count: Int) {
    precondition(length + count <= pages.count * pageSize, "tokens were not reserved")
    length += count
  }

  /// A second table over the same pages.
  public func fork(in pool: inout PagePool) -> PageTable {
    for page in pages { pool.retain(page) }
    return self
  }

  /// Gives all pages back; the ones that nobody uses any more.
  public mutating func releaseAll(to pool: inout PagePool) -> [PageID] {
    let freed = pages.filter { pool.release($0) }
    pages = []
    length = 0
    return freed
  }

  /// Forgets the tokens from `newLength` on; returns the slots given up and the pages freed.
  public mutating func truncate(
    to newLength: Int, in pool: inout PagePool
  ) -> (removedSlots: Int, freed: [PageID]) {
    precondition(newLength <= length)
    let kept = (newLength + pageSize - 1) / pageSize
    let removed = pages[kept...]
    let freed = removed.filter { pool.release($0) }
    pages.removeLast(removed.count)
    length = newLength
    return (removed.count, Array(freed))
  }
}
