// SPDX-License-Identifier: Apache-2.0

/// The tokens of a model, and those that stand in texts as they are.
struct Vocabulary: Sendable {
  let tokens: [[UInt8]]
  let kinds: [TokenKind]
  private let whole: PrefixTree
  /// The same without control tokens.
  private let userDefined: PrefixTree
  /// Tokens that take the white space around them.
  let strippers: Strippers

  /// Tokens that take the white space around them.
  struct Strippers: Sendable {
    /// Before them, and behind them.
    var left: Set<TokenID> = [], right: Set<TokenID> = []
  }

  /// - Parameters:
  ///   - tokens: the bytes that each stands for.
  ///   - kinds: one per token.
  init(_ tokens: [[UInt8]], _ kinds: [TokenKind], _ strippers: Strippers = Strippers()) {
    self.strippers = strippers
    self.tokens = tokens
    self.kinds = kinds
    var whole = PrefixTree()
    var userDefined = PrefixTree()
    for (index, kind) in kinds.enumerated() where !tokens[index].isEmpty {
      if kind == .control || kind == .userDefined || kind == .marker {
        whole.insert(tokens[index], TokenID(index))
      }
      if kind == .userDefined { userDefined.insert(tokens[index], TokenID(index)) }
    }
    self.whole = whole
    self.userDefined = userDefined
  }

  var count: Int { tokens.count }

  func bytes(of token: TokenID) -> [UInt8] {
    tokens.indices.contains(Int(token)) ? tokens[Int(token)] : []
  }

  func isControl(_ token: TokenID) -> Bool {
    kinds.indices.contains(Int(token)) && kinds[Int(token)] == .control
  }

  /// How the control tokens are written.
  var controlTokens: [String] {
    kinds.indices.filter {
      (kinds[$0] == .control || kinds[$0] == .marker) && !tokens[$0].isEmpty
    }.map {
      String(decoding: tokens[$0], as: UTF8.self)
    }
  }

  /// The id of the control or user-defined token written so.
  func special(_ text: String) -> TokenID? {
    let bytes = Array(text.utf8)
    return whole.longestMatch(in: bytes, at: 0).flatMap {
      $0.length == bytes.count ? $0.token : nil
    }
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x9...0xd).contains(byte) }

  /// A part of a text.
  enum Segment {
    case text(Range<Int>)
    case token(TokenID)
  }

  /// Cuts a text at the tokens that stand in it as they are: the longest from the left.
  func forEachSegment(
    of text: [UInt8], special: SpecialTokenReading, _ body: (Segment) -> Void
  ) {
    let tree = special == .parse ? whole : userDefined
    var start = 0
    var index = 0
    while index < text.count {
      guard let (token, length) = tree.longestMatch(in: text, at: index) else {
        index += 1
        continue
      }
      var end = index
      if strippers.left.contains(token) {
        while end > start, Self.isSpace(text[end - 1]) { end -= 1 }
      }
      if start < end { body(.text(start..<end)) }
      body(.token(token))
      index += length
      if strippers.right.contains(token) {
        while index < text.count, Self.isSpace(text[index]) { index += 1 }
      }
      start = index
    }
    if start < text.count { body(.text(start..<text.count)) }
  }
}

/// What a token of a vocabulary is for, by the numbers of GGUF and SentencePiece files.
public enum TokenKind: Int, Sendable, Hashable {
  case normal = 1
  case unknown = 2
  /// Not text: begin, end, roles.
  case control = 3
  /// Text that is never split.
  case userDefined = 4
  case unused = 5
  case byte = 6
  /// Marks a part of a turn: text where a model writes it, and no text that is read becomes it.
  case marker = -1

  /// The kind of that number in a file.
  public init?(number: Int) {
    guard number > 0 else { return nil }
    self.init(rawValue: number)
  }
}

/// Byte strings by their beginnings.
private struct PrefixTree {
  private var children: [UInt64: Int32] = [:]
  /// The token that ends at a node; -1: none.
  private var ends: [TokenID] = [-1]
  private var hasChild = [Bool](repeating: false, count: 256)

  private func key(_ node: Int32, _ byte: UInt8) -> UInt64 { UInt64(node) << 8 | UInt64(byte) }

  /// Of equal strings the first counts.
  mutating func insert(_ bytes: [UInt8], _ token: TokenID) {
    var node: Int32 = 0
    hasChild[Int(bytes[0])] = true
    for byte in bytes {
      if let child = children[key(node, byte)] {
        node = child
      } else {
        let child = Int32(ends.count)
        children[key(node, byte)] = child
        ends.append(-1)
        node = child
      }
    }
    if ends[Int(node)] < 0 { ends[Int(node)] = token }
  }

  func longestMatch(in text: [UInt8], at start: Int) -> (token: TokenID, length: Int)? {
    guard start < text.count, hasChild[Int(text[start])] else { return nil }
    var node: Int32 = 0
    var found: (token: TokenID, length: Int)?
    var index = start
    while index < text.count, let child = children[key(node, text[index])] {
      node = child
      index += 1
      if ends[Int(node)] >= 0 { found = (ends[Int(node)], index - start) }
    }
    return found
  }
}
