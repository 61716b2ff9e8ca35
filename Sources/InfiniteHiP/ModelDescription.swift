// SPDX-License-Identifier: Apache-2.0

public import HiPModelFiles
public import HiPModels
public import HiPTemplates
internal import HiPTensors
public import HiPTokenization

/// What a model's file or folder says of it, apart from the weights: a value.
public struct ModelDescription: Sendable {
  /// The file or folder.
  public let path: String
  /// What the weights make up, and where they lie.
  public let plan: ModelPlan
  /// Bytes of the weights where they lie.
  public let weightByteCount: Int
  /// Text to tokens and back.
  public let tokenizer: any Tokenizer
  /// Nil when the file has none, or none that is supported; `chatTemplateProblem` says which.
  public let chatTemplate: ChatTemplate?
  /// Why there is no chat template.
  public let chatTemplateProblem: String?
  /// What is wrong with the template that it has.
  public let chatTemplateError: TemplateError?
  /// What a text begins with, if anything.
  public let beginToken: TokenID?
  /// Tokens that end an answer.
  public let endTokens: Set<TokenID>
  /// How its makers would have tokens sampled.
  public let sampling: SamplingDefaults
  /// What the files leave unsaid, and what was taken instead.
  public let notices: [String]
  /// How begin and end tokens are written.
  private let writtenBegin, writtenEnd: String?

  /// What the weights make up.
  public var architecture: DecoderArchitecture { plan.architecture }

  /// Describes the model of a file or folder.
  /// - Parameter template: a chat template in place of its own.
  public init(_ file: ModelFile, template: TemplateSource? = nil) throws {
    path = file.path
    plan = try ModelPlan(file)
    weightByteCount = file.weightByteCount
    let text = try ModelText(file)
    switch file {
    case .gguf: sampling = SamplingDefaults()
    case .folder(let folder): sampling = try SamplingDefaults(folder.generation)
    }
    tokenizer = text.tokenizer
    notices = text.notices
    beginToken = text.addsBegin ? text.begin : nil
    endTokens = text.ends
    writtenBegin = text.name(text.begin)
    writtenEnd = text.name(text.end)
    guard let template = template ?? text.template.map({ .jinja($0) }) else {
      chatTemplate = nil
      chatTemplateError = nil
      chatTemplateProblem =
        "\(path) has no chat template. Give the prompt as it is with --raw, or a template with --template"
      return
    }
    do {
      chatTemplate = try Self.chatTemplate(
        template, tokenizer, begin: writtenBegin, end: writtenEnd)
      chatTemplateProblem = nil
      chatTemplateError = nil
    } catch {
      chatTemplate = nil
      chatTemplateError = error
      chatTemplateProblem =
        "\(path): the chat template cannot be used: \(error). Give the prompt as the model expects it "
        + "with --raw"
    }
  }

  /// Conversations of this model by another template than its own.
  /// - Throws: `TemplateError` when it is none.
  public func chatTemplate(by source: TemplateSource) throws -> ChatTemplate {
    try Self.chatTemplate(source, tokenizer, begin: writtenBegin, end: writtenEnd)
  }

  private static func chatTemplate(
    _ source: TemplateSource, _ tokenizer: any Tokenizer, begin: String?, end: String?
  ) throws(TemplateError) -> ChatTemplate {
    try ChatTemplate(
      source.parsed(), controlTokens: tokenizer.controlTokens, begin: begin, end: end, clock: .now)
  }

  /// A chat template by its language.
  public enum TemplateSource: Sendable, Hashable {
    /// As model files have it.
    case jinja(String)
    /// As stores of models have it.
    case go(String)

    func parsed() throws(TemplateError) -> TemplateLanguage {
      switch self {
      case .jinja(let text): .jinja(try Template(text))
      case .go(let text): .go(try GoTemplate(text))
      }
    }
  }

  /// The tokenizer of a GGUF file.
  public static func tokenizer(_ file: GGUFFile) throws -> any Tokenizer {
    try ModelText(file).tokenizer
  }
}

/// How tokens are sampled unless a request says otherwise; nil where the model's files say nothing.
public struct SamplingDefaults: Sendable, Hashable {
  /// Divides the logits.
  public var temperature: Double?
  /// Keeps the so many most probable tokens.
  public var topK: Int?
  /// Keeps the most probable tokens that together reach this probability.
  public var topP: Double?
  /// Keeps tokens with at least this share of the best one's probability.
  public var minP: Double?
  /// Penalty on recent tokens.
  public var repeatPenalty: Double?

  init() {}

  /// Reads `generation_config.json`.
  init(_ metadata: Metadata) throws(FileError) {
    func number(_ key: String) throws(FileError) -> Double? {
      metadata.values[key] == nil ? nil : try metadata.number(key)
    }
    repeatPenalty = try number("repetition_penalty")
    guard try metadata.flag("do_sample", default: false) else {
      temperature = metadata.values["do_sample"] == nil ? nil : 0
      return
    }
    temperature = try number("temperature") ?? 1
    topK = metadata.values["top_k"] == nil ? nil : try metadata.integer("top_k", in: 0...1 << 24)
    topP = try number("top_p")
    minP = try number("min_p")
  }
}
