// SPDX-License-Identifier: Apache-2.0

/// Byte-level byte pair encoding.
public struct BytePairTokenizer: Tokenizer {
  /// What a token of the vocabulary is for.
  public enum TokenKind: Int, Sendable, Hashable {
    case normal = 1
    case unknown = 2
    /// Not text: begin, end, roles.
    case control = 3
    /// Text that is never split.
    case userDefined = 4
    case unused = 5
    case byte = 6
  }

  private let preTokenizer: PreTokenizer
  private let tokenBytes: [[UInt8]]
  private let kinds: [TokenKind]
  private let idOfBytes: [[UInt8]: TokenID]
  /// Nil for bytes that no token stands for: they are left out of texts.
  private let tokenOfByte: [TokenID?]
  private let merges: [Pair: Merge]
  /// Tokens that are looked for in the text itself, longest first.
  private let wholeTokens: [TokenID]

  private struct Pair: Hashable {
    let left: TokenID
    let right: TokenID
  }

  private struct Merge {
    let rank: Int
    let result: TokenID
  }

  /// Builds a tokenizer from a vocabulary.
  /// - Parameters:
  ///   - tokens: all tokens, written in the byte alphabet (control tokens: as they are).
  ///   - kinds: one per token; empty when all are normal.
  ///   - merges: pairs separated by a space, most important first.
  ///   - preTokenizer: how texts are cut into words.
  public init(
    tokens: [String], kinds: [TokenKind], merges: [String], preTokenizer: PreTokenizer
  ) throws(TokenizerError) {
    let kinds = kinds.isEmpty ? [TokenKind](repeating: .normal, count: tokens.count) : kinds
    guard kinds.count == tokens.count else {
      throw TokenizerError(
        .invalid, "there are \(tokens.count) tokens, but \(kinds.count) token types")
    }
    var tokenBytes: [[UInt8]] = []
    var idOfBytes: [[UInt8]: TokenID] = [:]
    idOfBytes.reserveCapacity(tokens.count)
    for (index, token) in tokens.enumerated() {
      let isPlain = kinds[index] == .normal || kinds[index] == .byte
      let bytes = (isPlain ? ByteAlphabet.bytes(of: token) : nil) ?? Array(token.utf8)
      tokenBytes.append(bytes)
      if isPlain, idOfBytes[bytes] == nil { idOfBytes[bytes] = TokenID(index) }
    }
    let tokenOfByte = (UInt8.min...UInt8.max).map { idOfBytes[[$0]] }
    guard tokenOfByte.contains(where: { $0 != nil }) else {
      throw TokenizerError(.unusable, "no token stands for a single byte, so no text has ids")
    }
    var table: [Pair: Merge] = [:]
    table.reserveCapacity(merges.count)
    for (rank, merge) in merges.enumerated() {
      let parts = merge.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, let left = ByteAlphabet.bytes(of: parts[0]),
        let right = ByteAlphabet.bytes(of: parts[1]), let leftID = idOfBytes[left],
        let rightID = idOfBytes[right], let result = idOfBytes[left + right]
      else {
        throw TokenizerError(
          .invalid,
          "merge \(rank), \"\(merge)\", is not a pair of tokens whose union is a token")
      }
      let pair = Pair(left: leftID, right: rightID)
      if table[pair] == nil { table[pair] = Merge(rank: rank, result: result) }
    }
    self.preTokenizer = preTokenizer
    self.tokenBytes = tokenBytes
    self.kinds = kinds
    self.idOfBytes = idOfBytes
    self.tokenOfByte = tokenOfByte
    self.merges = table
    wholeTokens = kinds.indices
      .filter { (kinds[$0] == .control || kinds[$0] == .userDefined) && !tokenBytes[$0].isEmpty }
      .sorted { tokenBytes[$0].count > tokenBytes[$1].count }.map(TokenID.init)
  }

  /// Number of tokens.
  public var vocabularySize: Int { tokenBytes.count }

  /// The bytes that a token stands for; none for an unknown id.
  public func bytes(of token: TokenID) -> [UInt8] {
    tokenBytes.indices.contains(Int(token)) ? tokenBytes[Int(token)] : []
  }

  /// Whether the token is control and no text.
  public func isControl(_ token: TokenID) -> Bool {
    kinds.indices.contains(Int(token)) && kinds[Int(token)] == .control
  }

  /// How the vocabulary's control tokens are written.
  public var controlTokens: [String] {
    wholeTokens.filter { isControl($0) }.map {
      String(decoding: tokenBytes[Int($0)], as: UTF8.self)
    }
  }

  /// The id of the whole token written so.
  public func specialToken(_ text: String) -> TokenID? {
    let bytes = Array(text.utf8)
    return wholeTokens.first { tokenBytes[Int($0)] == bytes }
  }

  /// Ids of a text, in time that grows with its length alone.
  public func encode(_ text: String, special: SpecialTokenReading) -> [TokenID] {
    let bytes = Array(text.utf8)
    let sought = wholeTokens.filter { special == .parse || kinds[Int($0)] == .userDefined }
    let firstBytes = Set(sought.map { tokenBytes[Int($0)][0] })
    var ids: [TokenID] = []
    ids.reserveCapacity(bytes.count / 3)
    var words = WordEncoder(self)
    var start = 0
    var index = 0
    while index < bytes.count {
      guard firstBytes.contains(bytes[index]),
        let token = sought.first(where: { bytes[index...].starts(with: tokenBytes[Int($0)]) })
      else {
        index += 1
        continue
      }
      words.append(Array(bytes[start..<index]), to: &ids)
      ids.append(token)
      index += tokenBytes[Int(token)].count
      start = index
    }
    words.append(start == 0 ? bytes : Array(bytes[start...]), to: &ids)
    return ids
  }

  /// Encodes words and remembers them: a text repeats most of its words.
  private struct WordEncoder {
    private let tokenizer: BytePairTokenizer
    private var known: [[UInt8]: [TokenID]] = [:]

    init(_ tokenizer: BytePairTokenizer) { self.tokenizer = tokenizer }

    mutating func append(_ text: [UInt8], to ids: inout [TokenID]) {
      tokenizer.preTokenizer.forEachWord(text) { range in
        let word = Array(text[range])
        if let found = known[word] {
          ids += found
        } else {
          let encoded = tokenizer.encode(word: word)
          // Long words are rarely met again.
          if word.count <= 32 { known[word] = encoded }
          ids += encoded
        }
      }
    }
  }

  private func encode(word: [UInt8]) -> [TokenID] {
    if preTokenizer.ignoresMerges, let token = idOfBytes[word] { return [token] }
    return merge(word.compactMap { tokenOfByte[Int($0)] })
  }

  /// Joins pairs, lowest rank first and leftmost among equals, in O(n log n).
  private func merge(_ symbols: [TokenID]) -> [TokenID] {
    var symbols = symbols
    // Neighbours of each symbol that is left; a joined symbol's right part is marked -1.
    var previous = symbols.indices.map { $0 - 1 }
    var next = symbols.indices.map { $0 + 1 }
    var candidates = CandidateHeap()
    func candidate(_ left: Int, _ right: Int) -> CandidateHeap.Candidate? {
      guard left >= 0, right < symbols.count else { return nil }
      return merges[Pair(left: symbols[left], right: symbols[right])].map {
        CandidateHeap.Candidate(
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
    return symbols.filter { $0 >= 0 }
  }
}

/// A binary heap of pairs that could be joined, the most important first.
private struct CandidateHeap {
  struct Candidate {
    let rank: Int
    let position: Int
    let left: TokenID
    let right: TokenID
    let result: TokenID

    func precedes(_ other: Candidate) -> Bool {
      rank != other.rank ? rank < other.rank : position < other.position
    }
  }

  private var items: [Candidate] = []

  mutating func insert(_ item: Candidate) {
    items.append(item)
    var child = items.count - 1
    while child > 0, items[child].precedes(items[(child - 1) / 2]) {
      items.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  mutating func popFirst() -> Candidate? {
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
