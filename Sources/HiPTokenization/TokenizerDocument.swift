// SPDX-License-Identifier: Apache-2.0

public import HiPJSON

/// The `tokenizer.json` of a Hugging Face folder.
public struct TokenizerDocument: Sendable {
  private let json: JSONValue

  /// Wraps a document.
  public init(_ json: JSONValue) { self.json = json }

  private static func unsupported(_ what: String) -> TokenizerError {
    TokenizerError(.unusable, "\(what) is not supported")
  }

  /// Builds the tokenizer.
  /// - Parameters:
  ///   - kindOf: what a token is that is not called special.
  ///   - composed: a text in Unicode's normalisation form C.
  public func tokenizer(
    kindOf: (String, TokenKind) -> TokenKind, composed: @escaping @Sendable (String) -> String
  ) throws(TokenizerError) -> any Tokenizer {
    let vocabulary = try vocabulary(kindOf)
    let type = json["model"]?["type"]?.text ?? (json["model"]?["merges"] == nil ? "" : "BPE")
    switch type {
    case "BPE"
    where steps("pre_tokenizer").contains { $0["type"]?.text == "ByteLevel" }
      || json["decoder"]?["type"]?.text == "ByteLevel":
      return try byteLevel(vocabulary, composed)
    case "BPE":
      let scores = try scores(ofMerges: vocabulary)
      return try sentencePiece(vocabulary, scores, .bytePairs)
    case "Unigram":
      return try sentencePiece(vocabulary, vocabulary.scores, .unigram)
    default: throw Self.unsupported("the tokenizer model \"\(type)\"")
    }
  }

  /// Whether texts begin with this token.
  public func begins(with token: TokenID, _ tokenizer: any Tokenizer) -> Bool {
    let name = String(decoding: tokenizer.bytes(of: token), as: UTF8.self)
    return steps("post_processor").contains { step in
      step["single"]?.items?.first?["SpecialToken"]?["id"]?.text == name
    }
  }

  /// The steps of a part, which may be a sequence.
  private func steps(_ part: String) -> [JSONValue] {
    func flat(_ step: JSONValue, _ depth: Int) -> [JSONValue] {
      guard depth < 8, step["type"]?.text == "Sequence" else { return [step] }
      let inner =
        ["normalizers", "pretokenizers", "processors", "decoders"].lazy
        .compactMap { step[$0]?.items }.first ?? []
      return inner.flatMap { flat($0, depth + 1) }
    }
    return json[part].map { $0 == .null ? [] : flat($0, 0) } ?? []
  }

  // MARK: Vocabulary

  private struct Entries {
    var strippers = Vocabulary.Strippers()
    var tokens: [String] = []
    var kinds: [TokenKind] = []
    /// Of unigram models.
    var scores: [Double] = []
    var ids: [String: TokenID] = [:]
  }

  private func vocabulary(_ kindOf: (String, TokenKind) -> TokenKind) throws(TokenizerError)
    -> Entries
  {
    let model = json["model"]
    var named: [(String, Int)] = []
    var scores: [Double] = []
    switch model?["vocab"] {
    case .object(let members):
      named.reserveCapacity(members.count)
      for member in members {
        guard let id = member.value.integer else {
          throw TokenizerError(.invalid, "the token \"\(member.key)\" has no number")
        }
        named.append((member.key, id))
      }
    case .list(let items):
      for (id, item) in items.enumerated() {
        guard let pair = item.items, pair.count == 2, let piece = pair[0].text,
          let score = pair[1].number
        else { throw TokenizerError(.invalid, "token \(id) is no piece with a score") }
        named.append((piece, id))
        scores.append(score)
      }
    default: throw TokenizerError(.invalid, "there is no vocabulary")
    }
    let added = json["added_tokens"]?.items ?? []
    for token in added {
      guard let text = token["content"]?.text, let id = token["id"]?.integer else {
        throw TokenizerError(.invalid, "an added token has no text or number")
      }
      named.append((text, id))
    }
    let count = named.count
    var entries = Entries()
    // Numbers that no token has are possible, but few.
    let last = named.lazy.map(\.1).max() ?? -1
    guard last >= 0, last < 2 * count + 65_536, !named.contains(where: { $0.1 < 0 }) else {
      throw TokenizerError(
        .invalid, "the numbers of the tokens do not go with their count, \(count)")
    }
    let size = last + 1
    entries.tokens = .init(repeating: "", count: size)
    entries.kinds = .init(repeating: .unused, count: size)
    entries.scores = .init(repeating: -.infinity, count: size)
    for (text, id) in named {
      entries.tokens[id] = text
      entries.kinds[id] = .normal
      if entries.ids[text] == nil { entries.ids[text] = TokenID(id) }
    }
    for (id, score) in scores.enumerated() { entries.scores[id] = score }
    let hasBytes = model?["byte_fallback"]?.flag ?? false
    let unknown =
      model?["unk_token"]?.text.flatMap { entries.ids[$0] }
      ?? model?["unk_id"]?.integer.flatMap { TokenID(exactly: $0) }
    for id in entries.kinds.indices where entries.kinds[id] == .normal {
      let text = entries.tokens[id]
      if hasBytes, text.utf8.count == 6, text.hasPrefix("<0x"), text.hasSuffix(">") {
        entries.kinds[id] = .byte
      } else {
        entries.kinds[id] = kindOf(text, .normal)
      }
    }
    for token in added {
      guard let id = token["id"]?.integer, let text = token["content"]?.text else { continue }
      let isSpecial = token["special"]?.flag ?? false
      if token["lstrip"]?.flag ?? false { entries.strippers.left.insert(TokenID(id)) }
      if token["rstrip"]?.flag ?? false { entries.strippers.right.insert(TokenID(id)) }
      entries.kinds[id] = isSpecial ? .control : kindOf(text, .userDefined)
    }
    if let unknown, entries.kinds.indices.contains(Int(unknown)),
      entries.kinds[Int(unknown)] == .normal
    {
      entries.kinds[Int(unknown)] = .unknown
    }
    return entries
  }

  private func merges() throws(TokenizerError) -> [(left: String, right: String)] {
    var merges: [(left: String, right: String)] = []
    for (rank, merge) in (json["model"]?["merges"]?.items ?? []).enumerated() {
      // "a b" or ["a", "b"].
      let parts: [String] =
        merge.items?.compactMap(\.text)
        ?? merge.text.map { $0.split(separator: " ", maxSplits: 1).map(String.init) } ?? []
      guard parts.count == 2 else { throw TokenizerError(.invalid, "merge \(rank) is no pair") }
      merges.append((parts[0], parts[1]))
    }
    return merges
  }

  // MARK: Byte level

  private func byteLevel(
    _ entries: Entries, _ composed: @escaping @Sendable (String) -> String
  ) throws(TokenizerError) -> any Tokenizer {
    var composes = false
    for step in steps("normalizer") {
      guard step["type"]?.text == "NFC" else {
        throw Self.unsupported("the normalizer \"\(step["type"]?.text ?? "")\"")
      }
      composes = true
    }
    var patterns: [String] = []
    for step in steps("pre_tokenizer") {
      switch step["type"]?.text {
      case "Split":
        let isInverted = step["invert"]?.flag ?? false
        guard
          let pattern = step["pattern"]?["Regex"]?.text
            ?? step["pattern"]?["String"]?.text.map(Self.escaped),
          step["behavior"]?.text == (isInverted ? "Removed" : "Isolated")
        else { throw Self.unsupported("a way to split texts") }
        patterns.append(pattern)
      case "Digits":
        patterns.append(step["individual_digits"]?.flag ?? false ? #"\p{N}"# : #"\p{N}+"#)
      case "ByteLevel":
        guard !(step["add_prefix_space"]?.flag ?? false) else {
          throw Self.unsupported("a space before each text in a byte-level tokenizer")
        }
        if step["use_regex"]?.flag ?? true { patterns.append(PreTokenizer.gpt2Pattern) }
      case let type: throw Self.unsupported("the pre-tokenizer \"\(type ?? "")\"")
      }
    }
    return try BytePairTokenizer(
      tokens: entries.tokens, kinds: entries.kinds,
      merges: try merges().map { $0.left + " " + $0.right },
      preTokenizer: PreTokenizer(patterns: patterns),
      ignoresMerges: json["model"]?["ignore_merges"]?.flag ?? false,
      composed: composes ? composed : nil
    ).stripping(entries.strippers)
  }

  /// A pattern that matches a text itself.
  private static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      if scalar.isASCII, !scalar.properties.isAlphabetic, scalar.value > 0x20 { result += "\\" }
      result.unicodeScalars.append(scalar)
    }
    return result
  }

  // MARK: SentencePiece

  /// The better, the earlier a merge makes the piece.
  private func scores(ofMerges entries: Entries) throws(TokenizerError) -> [Double] {
    var scores = [Double](repeating: -.infinity, count: entries.tokens.count)
    for (rank, merge) in try merges().enumerated() {
      guard let id = entries.ids[merge.left + merge.right] else {
        throw TokenizerError(
          .invalid, "merge \(rank), \"\(merge.left) \(merge.right)\", makes no token")
      }
      scores[Int(id)] = max(scores[Int(id)], -Double(rank))
    }
    return scores
  }

  private func sentencePiece(
    _ entries: Entries, _ scores: [Double], _ algorithm: SentencePieceTokenizer.Algorithm
  ) throws(TokenizerError) -> any Tokenizer {
    var prefixesSpace = false
    for step in steps("normalizer") {
      switch step["type"]?.text {
      case "Prepend" where step["prepend"]?.text == "▁": prefixesSpace = true
      case "Replace" where step["pattern"]?["String"]?.text == " ": break
      case let type: throw Self.unsupported("the normalizer \"\(type ?? "")\"")
      }
    }
    for step in steps("pre_tokenizer") {
      switch step["type"]?.text {
      case "Metaspace":
        let scheme = step["prepend_scheme"]?.text
        prefixesSpace =
          prefixesSpace || (scheme.map { $0 != "never" } ?? step["add_prefix_space"]?.flag ?? true)
      // Spaces have become something else by then.
      case "Split" where step["pattern"]?["String"]?.text == " ": break
      case let type: throw Self.unsupported("the pre-tokenizer \"\(type ?? "")\"")
      }
    }
    return try SentencePieceTokenizer(
      pieces: entries.tokens, kinds: entries.kinds, scores: scores, algorithm: algorithm,
      prefixesSpace: prefixesSpace
    ).stripping(entries.strippers)
  }
}
