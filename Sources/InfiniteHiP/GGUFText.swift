// SPDX-License-Identifier: Apache-2.0

internal import HiPModelFiles
package import HiPTensors
package import HiPTokenization

extension ModelText {
  /// Reads the tokenizer of a GGUF file, its ends and its chat template.
  init(_ file: GGUFFile) throws {
    let metadata = file.metadata
    tokenizer = try Self.tokenizer(metadata)
    template = try metadata.text("tokenizer.chat_template")
    begin = try metadata.token("bos_token_id", tokenizer)
    end = try metadata.token("eos_token_id", tokenizer)
    addsBegin = try metadata.flag("tokenizer.ggml.add_bos_token", default: begin != nil)
    let named = ["eot_token_id", "eom_token_id", "eog_token_id"]
    ends = Set(try named.compactMap { try metadata.token($0, tokenizer) } + endsByName())
    if let end { ends.insert(end) }
    if try metadata.text("tokenizer.ggml.model") == "gpt2",
      metadata.values["tokenizer.ggml.pre"] == nil
    {
      notices.append(
        "\(metadata.path) does not say how texts are cut into words (tokenizer.ggml.pre is absent); \"default\" was taken"
      )
    }
  }

  private static func tokenizer(_ metadata: Metadata) throws -> any Tokenizer {
    func refuse(_ problem: String) -> FileError { FileError(path: metadata.path, problem: problem) }
    let key = "tokenizer.ggml."
    guard let tokens = try metadata.texts(key + "tokens") else {
      throw refuse("the metadata lack \"\(key)tokens\"")
    }
    let kinds = try kinds(of: tokens, metadata)
    let kind = try metadata.text(key + "model") ?? "none"
    do {
      switch kind {
      case "gpt2":
        guard let merges = try metadata.texts(key + "merges") else {
          throw refuse("the metadata lack \"\(key)merges\"")
        }
        let name = try metadata.text(key + "pre") ?? "default"
        guard let preTokenizer = try PreTokenizer(name: name) else {
          throw refuse(
            "\"\(key)pre\" is \"\(name)\", a way to cut texts into words that is not known here")
        }
        return try BytePairTokenizer(
          tokens: tokens, kinds: kinds, merges: merges, preTokenizer: preTokenizer,
          ignoresMerges: PreTokenizer.ignoresMerges(name: name))
      case "llama", "t5":
        guard let scores = try metadata.numbers(key + "scores") else {
          throw refuse("the metadata lack \"\(key)scores\"")
        }
        let tokenizer = try SentencePieceTokenizer(
          pieces: tokens, kinds: kinds, scores: scores,
          algorithm: kind == "llama" ? .bytePairs : .unigram,
          prefixesSpace: try metadata.flag(key + "add_space_prefix", default: true))
        guard try metadata.text("general.architecture") == "phi3" else { return tokenizer }
        // Phi-3's markers take the white space behind them, which its GGUF files do not say.
        let texts = ["<unk>", "<s>", "<|endoftext|>"]
        return tokenizer.stripping(
          behind: Set(
            kinds.indices.filter { kinds[$0] == .control && !texts.contains(tokens[$0]) }
              .map(TokenID.init)))
      default:
        throw refuse(
          "\"\(key)model\" is \"\(kind)\"; supported are gpt2 (byte-level BPE), llama and t5 "
            + "(SentencePiece)")
      }
    } catch let error as TokenizerError {
      throw refuse("the tokenizer is damaged: \(error)")
    }
  }

  /// What each token is for.
  ///
  /// Files mistype the markers of turns: those, which a user's text must not be able to write, are control tokens
  /// whatever the file says.
  private static func kinds(of tokens: [String], _ metadata: Metadata) throws -> [TokenKind] {
    let key = "tokenizer.ggml.token_type"
    var kinds: [TokenKind] = []
    for value in try metadata.integers(key) ?? [] {
      guard let kind = TokenKind(number: Int(clamping: value)) else {
        throw FileError(
          path: metadata.path, problem: "\"\(key)\" holds \(value); known are 1 to 6")
      }
      kinds.append(kind)
    }
    if kinds.isEmpty { kinds = .init(repeating: .normal, count: tokens.count) }
    let template = try metadata.text("tokenizer.chat_template") ?? ""
    for index in kinds.indices.prefix(tokens.count)
    where kinds[index] == .userDefined || kinds[index] == .normal {
      kinds[index] = TurnMarker.kind(of: tokens[index], kinds[index], template: template)
    }
    return kinds
  }
}

extension Metadata {
  /// The token that a key of the tokenizer names; nil when the key is absent.
  package func token(_ name: String, _ tokenizer: any Tokenizer) throws(FileError) -> TokenID? {
    let key = "tokenizer.ggml.\(name)"
    guard values[key] != nil else { return nil }
    return TokenID(try integer(key, in: 0...tokenizer.vocabularySize - 1))
  }
}
