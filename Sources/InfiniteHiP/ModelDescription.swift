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
    let kind = try metadata.text("tokenizer.ggml.model") ?? "none"
    guard kind == "gpt2" else {
      throw refuse(
        "\"tokenizer.ggml.model\" is \"\(kind)\"; supported is \"gpt2\", byte-level BPE")
    }
    let name = try metadata.text("tokenizer.ggml.pre") ?? "default"
    guard let preTokenizer = PreTokenizer(rawValue: name) else {
      let known = PreTokenizer.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
      throw refuse("\"tokenizer.ggml.pre\" is \"\(name)\"; supported are \(known)")
    }
    guard let tokens = try metadata.texts("tokenizer.ggml.tokens") else {
      throw refuse("the metadata lack \"tokenizer.ggml.tokens\"")
    }
    guard let merges = try metadata.texts("tokenizer.ggml.merges") else {
      throw refuse("the metadata lack \"tokenizer.ggml.merges\"")
    }
    let kinds = try (metadata.integers("tokenizer.ggml.token_type") ?? []).map { value in
      guard let kind = BytePairTokenizer.TokenKind(rawValue: Int(value)) else {
        throw refuse("\"tokenizer.ggml.token_type\" holds \(value); known are 1 to 6")
      }
      return kind
    }
    do {
      return try BytePairTokenizer(
        tokens: tokens, kinds: kinds, merges: merges, preTokenizer: preTokenizer)
    } catch {
      throw refuse("the tokenizer is damaged: \(error)")
    }
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
