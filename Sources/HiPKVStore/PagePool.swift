// SPDX-License-Identifier: Apache-2.0

/// The number of a page of the KV cache: the keys and values of all layers for a run of tokens.
public struct PageID: Sendable, Hashable {
  /// Index into the device's page store; small numbers are reused first.
  public let index: Int

  /// Wraps an index.
  public init(index: Int) { self.index = index }
}

/// Which pages are in use, and by how many sequences.
public struct PagePool: Sendable {
  private var referenceCounts: [Int] = []
  private var free: [Int] = []

  /// An empty pool.
  public init() {}

  /// Number of pages that some sequence uses.
  public var usedCount: Int { referenceCounts.count - free.count }

  /// Hands out a page with one reference.
  public mutating func allocate() -> PageID {
    if let index = free.popLast() {
      referenceCounts[index] = 1
      return PageID(index: index)
    }
    referenceCounts.append(1)
    return PageID(index: referenceCounts.count - 1)
  }

  /// Adds a reference to a page in use.
  public mutating func retain(_ page: PageID) {
    precondition(referenceCounts[page.index] > 0, "page \(page.index) is free")
    referenceCounts[page.index] += 1
  }

  /// Drops a reference; true when it was the last and the page is free now.
  public mutating func release(_ page: PageID) -> Bool {
    precondition(referenceCounts[page.index] > 0, "page \(page.index) is free")
    referenceCounts[page.index] -= 1
    guard referenceCounts[page.index] == 0 else { return false }
    free.append(page.index)
    return true
  }

  /// Whether several sequences use the page, so that none may write it.
  public func isShared(_ page: PageID) -> Bool { referenceCounts[page.index] > 1 }
}
