// SPDX-License-Identifier: Apache-2.0

internal import Foundation
public import HiPModelFiles
public import HiPModels
package import HiPTemplates
package import HiPTensors
public import HiPTokenization

/// What a model file says of its model, apart from the weights: a value.
public struct ModelDescription: Sendable {
  /// The file.
  public let path: String
  /// What the weights make up, and where they lie.
  public let plan: ModelPlan
  /// Bytes of the weights in the file.
  public let weightByteCount: Int
  /// Text to tokens and back.
  public let tokenizer: any Tokenizer
  /// Nil when the file has none, or none that is supported; `chatTemplateProblem` says which.
  public let chatTemplate: ChatTemplate?
  /// Why there is no chat template.
  public let chatTemplateProblem: String?
  /// What a text begins with, if anything.
  public let beginToken: TokenID?
  /// Tokens that end an answer.
  public let endTokens: Set<TokenID>

  /// What the weights make up.
  public var architecture: DecoderArchitecture { plan.architecture }

  /// Describes the model of a GGUF file.
  public init(_ file: GGUFFile) throws {
    path = file.path
    plan = try ModelPlan(file)
    weightByteCount = file.tensors.reduce(0) { $0 + ($1.bytes?.range.count ?? 0) }
    let tokenizer = try Self.tokenizer(file)
    self.tokenizer = tokenizer
    (beginToken, endTokens) = try Self.limits(file, tokenizer)
    if let jinja = try file.metadata.text("tokenizer.chat_template") {
      do {
        let begin = try file.metadata.token("bos_token_id", tokenizer)
        let end = try file.metadata.token("eos_token_id", tokenizer)
        func text(_ token: TokenID?) -> String? {
          token.map { String(decoding: tokenizer.bytes(of: $0), as: UTF8.self) }
        }
        chatTemplate = try ChatTemplate(
          jinja: jinja, controlTokens: tokenizer.controlTokens, begin: text(begin),
          end: text(end), clock: .now)
        chatTemplateProblem = nil
      } catch let error as TemplateError {
        chatTemplate = nil
        chatTemplateProblem =
          "\(path): the chat template cannot be used: \(error). Give the prompt as the model expects it "
          + "with --raw"
      }
    } else {
      chatTemplate = nil
      chatTemplateProblem = "\(path) has no chat template. Give the prompt as it is with --raw"
    }
  }

  /// The tokenizer of a GGUF file.
  public static func tokenizer(_ file: GGUFFile) throws -> any Tokenizer {
    let metadata = file.metadata
    func refuse(_ problem: String) -> FileError { FileError(path: file.path, problem: problem) }
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
        return try SentencePieceTokenizer(
          pieces: tokens, kinds: kinds, scores: scores,
          algorithm: kind == "llama" ? .bytePairs : .unigram,
          prefixesSpace: try metadata.flag(key + "add_space_prefix", default: true))
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
      guard let kind = TokenKind(rawValue: Int(value)) else {
        throw FileError(
          path: metadata.path, problem: "\"\(key)\" holds \(value); known are 1 to 6")
      }
      kinds.append(kind)
    }
    if kinds.isEmpty { kinds = .init(repeating: .normal, count: tokens.count) }
    let template = try metadata.text("tokenizer.chat_template") ?? ""
    for index in kinds.indices.prefix(tokens.count)
    where (kinds[index] == .userDefined || kinds[index] == .normal)
      && TurnMarker.isMarker(tokens[index], kinds[index], template: template)
    {
      kinds[index] = .control
    }
    return kinds
  }

  private static func limits(
    _ file: GGUFFile, _ tokenizer: any Tokenizer
  ) throws -> (begin: TokenID?, ends: Set<TokenID>) {
    let ends = [
      try file.metadata.token("eos_token_id", tokenizer),
      try file.metadata.token("eot_token_id", tokenizer),
      tokenizer.specialToken("<|endoftext|>"), tokenizer.specialToken("<|im_end|>"),
      tokenizer.specialToken("<|eot_id|>"), tokenizer.specialToken("<|end_of_text|>"),
    ]
    let begin = try file.metadata.token("bos_token_id", tokenizer)
    let adds = try file.metadata.flag("tokenizer.ggml.add_bos_token", default: begin != nil)
    return (adds ? begin : nil, Set(ends.compactMap { $0 }))
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

extension TemplateClock {
  /// The time here.
  package static var now: TemplateClock {
    let parts = Calendar(identifier: .gregorian).dateComponents(
      [.year, .month, .day, .hour, .minute, .second], from: Date())
    return TemplateClock(
      year: parts.year ?? 1970, month: parts.month ?? 1, day: parts.day ?? 1,
      hour: parts.hour ?? 0, minute: parts.minute ?? 0, second: parts.second ?? 0)
  }
}
