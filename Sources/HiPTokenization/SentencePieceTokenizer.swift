// SPDX-License-Identifier: Apache-2.0

/// The tokenizer of SentencePiece models: texts are pieces of words, with U+2581 for a space.
///
/// Pairs are merged by the score of what they become (BPE), or the best way to cut a text up is looked for
/// (unigram, arXiv 1804.10959).
public struct SentencePieceTokenizer: Tokenizer {
  /// How a text is cut into pieces.
  public enum Algorithm: Sendable, Hashable {
    case bytePairs
    case unigram
  }

  private var vocabulary: Vocabulary
  private let algorithm: Algorithm
  private let scores: [Double]
  private let table: PieceTable
  /// The piece of each byte that no other piece holds; nil: none.
  private let pieceOfByte: [TokenID?]
  private let unknown: TokenID?
  /// Whether a text begins with a space, whatever it begins with.
  public let prefixesSpace: Bool
  /// Last bytes of what may stand before a space within a piece: no word ends there.
  private let bytesBeforeSpace: Set<UInt8>
  /// Bytes of the longest piece.
  private let longest: Int
  /// What a character costs that no piece holds: ten more than the worst piece.
  private let unknownScore: Double

  private static let space: [UInt8] = [0xe2, 0x96, 0x81]

  /// Builds a tokenizer from a vocabulary.
  /// - Parameters:
  ///   - pieces: all tokens, with U+2581 in place of spaces.
  ///   - kinds: one per token; empty when all are normal.
  ///   - scores: one per token, the greatest the best; -infinity: nothing becomes this piece.
  ///   - algorithm: how a text is cut into pieces.
  ///   - prefixesSpace: whether a space is put before each text.
  public init(
    pieces: [String], kinds: [TokenKind], scores: [Double], algorithm: Algorithm,
    prefixesSpace: Bool
  ) throws(TokenizerError) {
    let kinds = kinds.isEmpty ? [TokenKind](repeating: .normal, count: pieces.count) : kinds
    guard kinds.count == pieces.count, scores.count == pieces.count else {
      throw TokenizerError(
        .invalid,
        "there are \(pieces.count) tokens, but \(kinds.count) token types and \(scores.count) scores"
      )
    }
    var tokens: [[UInt8]] = []
    tokens.reserveCapacity(pieces.count)
    var pieceOfByte = [TokenID?](repeating: nil, count: 256)
    var unknown: TokenID?
    var bytesBeforeSpace: Set<UInt8> = []
    var longest = 0
    var table = PieceTable(capacity: pieces.count)
    for (index, piece) in pieces.enumerated() {
      let raw = Array(piece.utf8)
      switch kinds[index] {
      case .byte:
        guard let byte = Self.byte(piece) else {
          throw TokenizerError(.invalid, "token \(index), \"\(piece)\", is no byte such as <0x0A>")
        }
        tokens.append([byte])
        if pieceOfByte[Int(byte)] == nil { pieceOfByte[Int(byte)] = TokenID(index) }
      case .unknown:
        tokens.append(raw)
        if unknown == nil { unknown = TokenID(index) }
      case .control, .marker: tokens.append(raw)
      case .normal, .userDefined, .unused:
        let bytes = Self.withSpaces(raw)
        tokens.append(bytes)
        guard kinds[index] == .normal, !bytes.isEmpty else { continue }
        table.insert(bytes, TokenID(index))
        longest = max(longest, bytes.count)
        for place in bytes.indices.dropFirst()
        where bytes[place] == 0x20 && bytes[place - 1] != 0x20 {
          bytesBeforeSpace.insert(bytes[place - 1])
        }
      }
    }
    guard table.count > 0 || pieceOfByte.contains(where: { $0 != nil }) else {
      throw TokenizerError(.unusable, "no token stands for text")
    }
    vocabulary = Vocabulary(tokens, kinds)
    self.algorithm = algorithm
    self.scores = scores
    self.table = table
    self.pieceOfByte = pieceOfByte
    self.unknown = unknown
    self.prefixesSpace = prefixesSpace
    self.bytesBeforeSpace = bytesBeforeSpace
    self.longest = longest
    unknownScore = (scores.lazy.filter(\.isFinite).min() ?? 0) - 10
  }

  /// The byte that a piece such as <0x0A> is written for.
  private static func byte(_ piece: String) -> UInt8? {
    guard piece.hasPrefix("<0x"), piece.hasSuffix(">"), piece.utf8.count == 6 else { return nil }
    return UInt8(piece.dropFirst(3).dropLast(), radix: 16)
  }

  /// Bytes with a space in place of each U+2581.
  private static func withSpaces(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.contains(0xe2) else { return bytes }
    var result: [UInt8] = []
    var index = 0
    while index < bytes.count {
      if bytes[index...].starts(with: space) {
        result.append(0x20)
        index += space.count
      } else {
        result.append(bytes[index])
        index += 1
      }
    }
    return result
  }

  /// Number of tokens.
  public var vocabularySize: Int { vocabulary.count }

  /// The bytes that a token stands for, a space in place of each U+2581; none for an unknown id.
  public func bytes(of token: TokenID) -> [UInt8] { vocabulary.bytes(of: token) }

  /// Whether the token is control and no text.
  public func isControl(_ token: TokenID) -> Bool { vocabulary.isControl(token) }

  /// Whether the token takes the white space behind it.
  public func stripsSpace(after token: TokenID) -> Bool {
    vocabulary.strippers.right.contains(token)
  }

  /// The same tokenizer with some control tokens taking the white space behind them.
  public func stripping(behind tokens: Set<TokenID>) -> SentencePieceTokenizer {
    stripping(.init(right: tokens))
  }

  /// The same tokenizer with some tokens taking the white space before or behind them.
  func stripping(_ strippers: Vocabulary.Strippers) -> Self {
    var copy = self
    copy.vocabulary = Vocabulary(vocabulary.tokens, vocabulary.kinds, strippers)
    return copy
  }

  /// How the vocabulary's control tokens are written.
  public var controlTokens: [String] { vocabulary.controlTokens }

  /// The id of the whole token written so.
  public func specialToken(_ text: String) -> TokenID? { vocabulary.special(text) }

  /// Ids of a text, in time that grows with its length alone but for a logarithm.
  public func encode(_ text: String, special: SpecialTokenReading) -> [TokenID] {
    // U+2581 in a text is a space, as SentencePiece has it.
    let bytes = Self.withSpaces(Array(text.utf8))
    var ids: [TokenID] = []
    ids.reserveCapacity(bytes.count / 3)
    var known: [[UInt8]: [TokenID]] = [:]
    var followsToken = true
    vocabulary.forEachSegment(of: bytes, special: special) { segment in
      switch segment {
      case .token(let token):
        ids.append(token)
        followsToken = true
      case .text(let range):
        var text = Array(bytes[range])
        if prefixesSpace, followsToken { text.insert(0x20, at: 0) }
        followsToken = false
        // A text repeats most of its words.
        forEachWord(text) { word in
          if let found = known[word] {
            ids += found
          } else {
            let encoded = encode(word: word)
            if word.count <= 32 { known[word] = encoded }
            ids += encoded
          }
        }
      }
    }
    return ids
  }

  /// Cuts a text before its spaces, where no piece goes across.
  private func forEachWord(_ text: [UInt8], _ body: ([UInt8]) -> Void) {
    var start = 0
    for index in text.indices.dropFirst()
    where text[index] == 0x20 && text[index - 1] != 0x20
      && !bytesBeforeSpace.contains(text[index - 1])
    {
      body(Array(text[start..<index]))
      start = index
    }
    if start < text.count { body(Array(text[start...])) }
  }

  private func encode(word: [UInt8]) -> [TokenID] {
    switch algorithm {
    case .bytePairs: mergedPairs(word)
    case .unigram: bestPieces(word)
    }
  }

  /// The pieces of a character that no piece holds.
  private func pieces(ofUnknown character: ArraySlice<UInt8>, _ ids: inout [TokenID]) {
    let bytes = character.compactMap { pieceOfByte[Int($0)] }
    if bytes.count == character.count {
      ids += bytes
    } else if let unknown {
      ids.append(unknown)
    }
  }

  // MARK: Byte pairs

  /// Characters are numbered by the place of their bytes, so that what no piece holds has a number, too.
  private func mergedPairs(_ word: [UInt8]) -> [TokenID] {
    var characters: [Range<Int>] = []
    var index = 0
    while index < word.count {
      let end = min(word.count, index + Self.length(ofCharacter: word[index]))
      characters.append(index..<end)
      index = end
    }
    // Negative numbers are characters without a piece.
    let symbols = characters.enumerated().map { place, range in
      table.token(of: word[range]) ?? -2 - TokenID(place)
    }
    let merged = SymbolMerger.merge(symbols) { left, right in
      guard left >= 0, right >= 0, let result = table.token(joining: left, right, vocabulary.tokens)
      else { return nil }
      let score = scores[Int(result)]
      return score == -.infinity ? nil : .init(rank: -score, result: result)
    }
    var ids: [TokenID] = []
    for symbol in merged {
      if symbol >= 0 {
        ids.append(symbol)
      } else {
        pieces(ofUnknown: word[characters[Int(-2 - symbol)]], &ids)
      }
    }
    return ids
  }

  private static func length(ofCharacter first: UInt8) -> Int {
    first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
  }

  // MARK: Unigram

  /// The way to cut a word up whose scores add up to most (Viterbi).
  private func bestPieces(_ word: [UInt8]) -> [TokenID] {
    var best = [Double](repeating: -.infinity, count: word.count + 1)
    var last = [(start: Int, token: TokenID)](repeating: (0, -1), count: word.count + 1)
    best[0] = 0
    for start in word.indices where best[start] > -.infinity {
      func offer(_ end: Int, _ token: TokenID, _ score: Double) {
        if best[start] + score > best[end] {
          best[end] = best[start] + score
          last[end] = (start, token)
        }
      }
      table.forEachPiece(in: word, at: start, longest: longest) { token, length in
        offer(start + length, token, scores[Int(token)])
      }
      offer(min(word.count, start + Self.length(ofCharacter: word[start])), -1, unknownScore)
    }
    var pieces: [(Range<Int>, TokenID)] = []
    var end = word.count
    while end > 0 {
      pieces.append((last[end].start..<end, last[end].token))
      end = last[end].start
    }
    var ids: [TokenID] = []
    for (range, token) in pieces.reversed() {
      if token >= 0 { ids.append(token) } else { self.pieces(ofUnknown: word[range], &ids) }
    }
    return ids
  }
}
