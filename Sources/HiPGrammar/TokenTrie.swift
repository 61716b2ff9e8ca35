// SPDX-License-Identifier: Apache-2.0

/// The bytes of a vocabulary, with shared beginnings stored once.
///
/// Nodes lie in the order of a walk that goes down first, so a walk is a loop, and leaving out
/// what lies below a node is a jump.
public final class TokenTrie: Sendable {
  /// How many tokens the vocabulary has.
  public let tokenCount: Int
  /// The byte that leads into each node.
  let bytes: [UInt8]
  let depths: [Int32]
  /// The node behind all those below.
  let ends: [Int32]
  /// Where the tokens of a node start in `tokens`; one entry more than there are nodes.
  let firstTokens: [Int32]
  let tokens: [Int32]
  let maximumDepth: Int

  /// Sorts a vocabulary; `bytes` is nil for tokens that never stand for text.
  public init(count: Int, bytes: (Int32) -> [UInt8]?) {
    var sorted = SortedTokens()
    for token in 0..<Int32(clamping: max(0, count)) {
      if let text = bytes(token), !text.isEmpty { sorted.append(token, text) }
    }
    sorted.sort()
    var nodes = TrieNodes()
    for entry in sorted.entries { nodes.add(entry.token, sorted.text(entry)) }
    nodes.close(to: 0)
    tokenCount = max(0, count)
    self.bytes = nodes.bytes
    depths = nodes.depths
    ends = nodes.ends
    firstTokens = nodes.firstTokens + [Int32(nodes.tokens.count)]
    tokens = nodes.tokens
    maximumDepth = nodes.maximumDepth
  }

  /// The tokens whose bytes lead from a state to a state; `step` yields a negative number for none.
  func mask(from state: Int32, step: (Int32, UInt8) -> Int32) -> TokenMask {
    var mask = TokenMask(tokenCount: tokenCount)
    var states = [Int32](repeating: state, count: maximumDepth + 1)
    var node = 0
    while node < bytes.count {
      let depth = Int(depths[node])
      let next = step(states[depth], bytes[node])
      if next < 0 {
        node = Int(ends[node])
        continue
      }
      states[depth + 1] = next
      for index in Int(firstTokens[node])..<Int(firstTokens[node + 1]) {
        mask.insert(tokens[index])
      }
      node += 1
    }
    return mask
  }
}

/// Tokens by their bytes, which lie in one array.
private struct SortedTokens {
  struct Entry {
    /// The first eight bytes, most significant first: most comparisons need no more.
    let key: UInt64
    let token: Int32
    let start: Int
    let count: Int
  }

  private var text: [UInt8] = []
  private(set) var entries: [Entry] = []

  mutating func append(_ token: Int32, _ bytes: [UInt8]) {
    var key: UInt64 = 0
    for index in 0..<8 { key = key << 8 | UInt64(index < bytes.count ? bytes[index] : 0) }
    entries.append(Entry(key: key, token: token, start: text.count, count: bytes.count))
    text += bytes
  }

  func text(_ entry: Entry) -> ArraySlice<UInt8> { text[entry.start..<entry.start + entry.count] }

  mutating func sort() { entries.sort(by: precedes) }

  private func precedes(_ first: Entry, _ second: Entry) -> Bool {
    if first.key != second.key { return first.key < second.key }
    let (a, b) = (text(first), text(second))
    if a.lexicographicallyPrecedes(b) { return true }
    return first.token < second.token && a == b
  }
}

/// The arrays of a trie, while tokens come in order.
private struct TrieNodes {
  private(set) var bytes: [UInt8] = []
  private(set) var depths: [Int32] = []
  private(set) var ends: [Int32] = []
  private(set) var firstTokens: [Int32] = []
  private(set) var tokens: [Int32] = []
  private(set) var maximumDepth = 0
  /// The nodes of the token before.
  private var open: [Int32] = []

  mutating func add(_ token: Int32, _ text: ArraySlice<UInt8>) {
    let shared = zip(open, text).prefix { bytes[Int($0)] == $1 }.count
    close(to: shared)
    for byte in text.dropFirst(shared) {
      depths.append(Int32(open.count))
      open.append(Int32(bytes.count))
      bytes.append(byte)
      ends.append(0)
      firstTokens.append(Int32(tokens.count))
    }
    maximumDepth = max(maximumDepth, open.count)
    tokens.append(token)
  }

  mutating func close(to depth: Int) {
    while open.count > depth, let node = open.popLast() { ends[Int(node)] = Int32(bytes.count) }
  }
}
