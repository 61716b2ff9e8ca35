// SPDX-License-Identifier: Apache-2.0

/// Byte-level byte pair encoding.
public struct BytePairTokenizer: Tokenizer {
  private let preTokenizer: PreTokenizer
  private var vocabulary: Vocabulary
  /// Whether a word that is a token itself stays whole, whatever the merges say.
  private let ignoresMerges: Bool
  private let idOfBytes: [[UInt8]: TokenID]
  /// Nil for bytes that no token stands for: they are left out of texts.
  private let tokenOfByte: [TokenID?]
  private let merges: [Pair: SymbolMerger.Merge]

  private struct Pair: Hashable {
    let left: TokenID
    let right: TokenID
  }

  /// Brings a text into the form that the vocabulary was made for; nil: it stays as it is.
  private let composed: (@Sendable (String) -> String)?

  /// Builds a tokenizer from a vocabulary.
  /// - Parameters:
  ///   - tokens: all tokens, written in the byte alphabet (control tokens: as they are).
  ///   - kinds: one per token; empty when all are normal.
  ///   - merges: pairs separated by a space, most important first.
  ///   - preTokenizer: how texts are cut into words.
  ///   - ignoresMerges: whether a word that is a token itself stays whole, whatever the merges say.
  ///   - composed: brings a text into the form that the vocabulary was made for; nil: it stays as it is.
  public init(
    tokens: [String], kinds: [TokenKind], merges: [String], preTokenizer: PreTokenizer,
    ignoresMerges: Bool = false, composed: (@Sendable (String) -> String)? = nil
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
    var table: [Pair: SymbolMerger.Merge] = [:]
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
      if table[pair] == nil { table[pair] = .init(rank: Double(rank), result: result) }
    }
    self.preTokenizer = preTokenizer
    self.ignoresMerges = ignoresMerges
    self.composed = composed
    vocabulary = Vocabulary(tokenBytes, kinds)
    self.idOfBytes = idOfBytes
    self.tokenOfByte = tokenOfByte
    self.merges = table
  }

  /// Number of tokens.
  public var vocabularySize: Int { vocabulary.count }

  /// The bytes that a token stands for; none for an unknown id.
  public func bytes(of token: TokenID) -> [UInt8] { vocabulary.bytes(of: token) }

  /// Whether the token is control and no text.
  public func isControl(_ token: TokenID) -> Bool { vocabulary.isControl(token) }

  /// Whether the token takes the white space behind it.
  public func stripsSpace(after token: TokenID) -> Bool {
    vocabulary.strippers.right.contains(token)
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

  /// Ids of a text, in time that grows with its length alone.
  public func encode(_ text: String, special: SpecialTokenReading) -> [TokenID] {
    // Most texts have nothing to compose.
    let isPlain = composed == nil || text.utf8.allSatisfy { $0 < 0x80 }
    let bytes = Array((isPlain ? text : composed?(text) ?? text).utf8)
    var ids: [TokenID] = []
    ids.reserveCapacity(bytes.count / 3)
    var words = WordEncoder(self)
    vocabulary.forEachSegment(of: bytes, special: special) { segment in
      switch segment {
      case .token(let token): ids.append(token)
      case .text(let range): words.append(Array(bytes[range]), to: &ids)
      }
    }
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
    if ignoresMerges, let token = idOfBytes[word] { return [token] }
    return SymbolMerger.merge(word.compactMap { tokenOfByte[Int($0)] }) { left, right in
      merges[Pair(left: left, right: right)]
    }
  }
}
