// SPDX-License-Identifier: Apache-2.0

/// Words that share their beginnings: a choice of thousands then offers a few next symbols only.
struct PrefixTree<Symbol: Comparable> {
  struct Entry {
    var children: [(symbol: Symbol, entry: Int)] = []
    var endsWord = false
  }

  /// Children come behind their parents.
  private(set) var entries = [Entry()]

  init(_ words: some Sequence<[Symbol]>) {
    for word in words.sorted(by: { $0.lexicographicallyPrecedes($1) }) { insert(word) }
  }

  /// Words come in order, so only the last child can be shared.
  private mutating func insert(_ word: [Symbol]) {
    var current = 0
    for symbol in word {
      if let last = entries[current].children.last, last.symbol == symbol {
        current = last.entry
      } else {
        entries.append(Entry())
        entries[current].children.append((symbol, entries.count - 1))
        current = entries.count - 1
      }
    }
    entries[current].endsWord = true
  }
}

extension GrammarBuilder {
  /// One of several byte strings.
  func words(_ words: [[UInt8]], then next: Node) -> Node {
    let tree = PrefixTree(words)
    var nodes = [Node](repeating: Self.dead, count: tree.entries.count)
    for (index, entry) in tree.entries.enumerated().reversed() {
      nodes[index] = split(
        entry.children.map { bytes(ByteSet($0.symbol), then: nodes[$0.entry]) }
          + (entry.endsWord ? [next] : []))
    }
    return nodes[0]
  }

  /// A name of a member other than those given, with its quotes.
  ///
  /// It holds no escapes, as those could spell a given name in another way.
  func otherName(than names: [String], then next: Node) -> Node {
    let close = literal("\"", then: next)
    let rest = loop(exit: close) { utf8(.unescaped, then: $0) }
    let tree = PrefixTree(names.map { Array($0.unicodeScalars) })
    var nodes = [Node](repeating: Self.dead, count: tree.entries.count)
    for (index, entry) in tree.entries.enumerated().reversed() {
      let children = entry.children.filter { ScalarSet.unescaped.contains($0.symbol.value) }
      let others = ScalarSet.unescaped.subtracting(ScalarSet(children.map(\.symbol)))
      var options = [utf8(others, then: rest)]
      for child in children {
        options.append(utf8(ScalarSet([child.symbol]), then: nodes[child.entry]))
      }
      if !entry.endsWord { options.append(close) }
      nodes[index] = split(options)
    }
    return literal("\"", then: nodes[0])
  }
}
