// SPDX-License-Identifier: Apache-2.0

/// Joins neighbouring symbols, the most important pair first and the leftmost among equals, in O(n log n).
struct SymbolMerger {
  /// What a pair becomes.
  struct Merge {
    /// The least is the most important.
    let rank: Double
    let result: TokenID
  }

  private struct Candidate {
    let rank: Double
    let position: Int
    let left: TokenID
    let right: TokenID
    let result: TokenID

    func precedes(_ other: Candidate) -> Bool {
      rank != other.rank ? rank < other.rank : position < other.position
    }
  }

  /// A binary heap.
  private var items: [Candidate] = []

  /// The symbols that are left when no pair can be joined any more.
  static func merge(
    _ symbols: [TokenID], _ merge: (_ left: TokenID, _ right: TokenID) -> Merge?
  ) -> [TokenID] {
    guard symbols.count > 1 else { return symbols }
    var symbols = symbols
    // Neighbours of each symbol that is left; a joined symbol's right part is marked -1.
    var previous = symbols.indices.map { $0 - 1 }
    var next = symbols.indices.map { $0 + 1 }
    var candidates = SymbolMerger()
    func candidate(_ left: Int, _ right: Int) -> Candidate? {
      guard left >= 0, right < symbols.count else { return nil }
      return merge(symbols[left], symbols[right]).map {
        Candidate(
          rank: $0.rank, position: left, left: symbols[left], right: symbols[right],
          result: $0.result)
      }
    }
    for index in symbols.indices.dropLast() {
      if let found = candidate(index, index + 1) { candidates.insert(found) }
    }
    while let best = candidates.popFirst() {
      let left = best.position
      let right = next[left]
      // The pair may have gone since it was noted.
      guard symbols[left] == best.left, right < symbols.count, symbols[right] == best.right else {
        continue
      }
      symbols[left] = best.result
      symbols[right] = -1
      next[left] = next[right]
      if next[left] < symbols.count { previous[next[left]] = left }
      if let found = candidate(previous[left], left) { candidates.insert(found) }
      if let found = candidate(left, next[left]) { candidates.insert(found) }
    }
    return symbols.filter { $0 != -1 }
  }

  private mutating func insert(_ item: Candidate) {
    items.append(item)
    var child = items.count - 1
    while child > 0, items[child].precedes(items[(child - 1) / 2]) {
      items.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  private mutating func popFirst() -> Candidate? {
    guard let first = items.first, let last = items.popLast() else { return nil }
    guard !items.isEmpty else { return first }
    items[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < items.count && items[child].precedes(items[least]) {
        least = child
      }
      guard least != parent else { return first }
      items.swapAt(least, parent)
      parent = least
    }
  }
}
