// SPDX-License-Identifier: Apache-2.0

internal import Foundation
public import HiPAttention
public import HiPCompute
public import HiPModelFiles
public import HiPModels
internal import HiPTensors
public import HiPTokenization

/// A model that is ready to read and answer.
///
/// ```swift
/// let model = try LanguageModel.load("model.gguf", on: CPUBackend())
/// let session = try await model.makeSession()
/// let request = GenerationRequest(.message(ChatMessage(role: .user, content: "Hello")))
/// for try await event in session.respond(to: request) {
///   if case .text(let text) = event { print(text, terminator: "") }
/// }
/// ```
public final class LanguageModel: Sendable {
  /// Where it was loaded from.
  public let path: String
  /// What the weights make up.
  public let architecture: DecoderArchitecture
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
  /// How sessions store keys and values.
  public let kvType: KVType
  let engine: Engine
  /// Bytes of the weights in the file.
  public let weightByteCount: Int

  /// Loads a GGUF file onto a device.
  ///
  /// Weights are mapped, not copied.
  /// - Parameters:
  ///   - path: the file.
  ///   - backend: a device that serves this model and no other.
  ///   - kvType: how sessions store keys and values; `q8` takes about half the memory.
  /// - Throws: `FileError`, `TokenizerError` or `ComputeError`, naming what is wrong.
  public static func load(
    _ path: String, on backend: sending any ComputeBackend, kvType: KVType = .f16
  ) throws -> LanguageModel {
    try LanguageModel(GGUFFile(path: path), on: backend, kvType: kvType)
  }

  /// Places an opened file on a device.
  public init(
    _ file: GGUFFile, on backend: sending any ComputeBackend, kvType: KVType = .f16
  ) throws {
    path = file.path
    let architecture = try DecoderArchitecture(file)
    self.architecture = architecture
    self.kvType = kvType
    try kvType.check(headSize: architecture.attention.headSize)
    guard architecture.activationByteCount < MachineMemory.physicalByteCount else {
      throw InfiniteHiPError(
        .outOfMemory(
          neededBytes: architecture.activationByteCount,
          physicalBytes: MachineMemory.physicalByteCount),
        "\(file.path): one step of this model takes \(architecture.activationByteCount / 1_000_000) "
          + "MB, more memory than this machine has")
    }
    let tokenizer = try Self.tokenizer(file)
    self.tokenizer = tokenizer
    (beginToken, endTokens) = try Self.limits(file, tokenizer)
    if let jinja = try file.metadata.text("tokenizer.chat_template") {
      do {
        chatTemplate = try ChatTemplate(jinja: jinja)
        chatTemplateProblem = nil
      } catch {
        chatTemplate = nil
        chatTemplateProblem = "\(path): \(error)"
      }
    } else {
      chatTemplate = nil
      chatTemplateProblem = "\(path) has no chat template. Give the prompt as it is with --raw"
    }
    weightByteCount = file.tensors.reduce(0) { $0 + ($1.bytes?.range.count ?? 0) }
    engine = Engine(
      model: try DecoderModel(architecture, weights: file, backend: backend))
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
    func token(_ key: String) throws -> TokenID? {
      let key = "tokenizer.ggml.\(key)"
      guard file.metadata.values[key] != nil else { return nil }
      return TokenID(try file.metadata.integer(key, in: 0...tokenizer.vocabularySize - 1))
    }
    let ends = [
      try token("eos_token_id"), try token("eot_token_id"),
      tokenizer.specialToken("<|endoftext|>"), tokenizer.specialToken("<|im_end|>"),
      tokenizer.specialToken("<|eot_id|>"), tokenizer.specialToken("<|end_of_text|>"),
    ]
    let begin = try token("bos_token_id")
    let adds = try file.metadata.flag("tokenizer.ggml.add_bos_token", default: begin != nil)
    return (adds ? begin : nil, Set(ends.compactMap { $0 }))
  }

  /// Opens an empty session.
  /// - Parameters:
  ///   - attention: what its tokens attend to.
  ///   - contextLimit: the most tokens that prompt and answers may have together. A ceiling: memory
  ///     is taken as tokens come.
  ///   - sketched: policies whose sketches are kept besides, for whoever observes the session.
  public func makeSession(
    attention: AttentionChoice = .automatic, contextLimit: Int = defaultContextLimit,
    alsoSketching sketched: [AttentionPolicy] = []
  ) async throws -> Session {
    guard contextLimit > 0 else {
      throw InfiniteHiPError(.request, "the context is \(contextLimit) tokens; it must be positive")
    }
    try checkReach(attention, contextLimit: contextLimit)
    try checkLayers(attention)
    let layout = cacheLayout([attention.policy] + sketched)
    let sequence = await engine.open(
      LayerAttention(attention, trainedLength: architecture.trainedLength), layout: layout)
    return Session(
      model: self, sequence: sequence, attention: attention,
      limits: Session.Limits(context: contextLimit, layout: layout))
  }

  /// Throws when a policy names layers that the model does not have.
  private func checkLayers(_ attention: AttentionChoice) throws(InfiniteHiPError) {
    guard case .hierarchical(let pruning) = attention.policy else { return }
    let count = architecture.layerCount
    for exception in pruning.exceptions {
      guard let layer = exception.missingLayer(of: count) else { continue }
      throw InfiniteHiPError(
        .request,
        "\"\(attention.name)\" has an exception for layer \(layer); the model has \(count) layers: "
          + "0 to \(count - 1), or -1 to -\(count) from the end")
    }
  }

  /// Throws when a policy would put more keys before a query than the model was trained on.
  private func checkReach(
    _ attention: AttentionChoice, contextLimit: Int
  ) throws(InfiniteHiPError) {
    let reach: Int
    switch attention.policy {
    case .dense, .stretched: return
    case .streaming(let window): reach = window.sink + window.window
    case .heavyHitters(let hitters): reach = hitters.budget + HeavyHitters.queryBlock
    case .hierarchical(let pruning): reach = pruning.largestBudget + pruning.queryBlock
    }
    guard min(reach, contextLimit) <= architecture.trainedLength else {
      throw InfiniteHiPError(
        .request,
        "\"\(attention.name)\" attends over \(reach) positions, more than the "
          + "\(architecture.trainedLength) that the model was trained on. Give a policy file with a "
          + "smaller sink, window and keep, or --context \(architecture.trainedLength) at most")
    }
  }

  /// Tokens that a session holds unless told otherwise: 16 million.
  public static let defaultContextLimit = 1 << 24

  /// How keys and values are stored for a choice of attention.
  public func cacheLayout(_ attention: AttentionChoice) -> KVLayout {
    cacheLayout([attention.policy])
  }

  private func cacheLayout(_ policies: [AttentionPolicy]) -> KVLayout {
    var sketches: [KeySketch] = []
    for case .hierarchical(let pruning) in policies {
      sketches += pruning.sketches.filter { !sketches.contains($0) }
    }
    return KVLayout(
      layerCount: architecture.layerCount, shape: architecture.attention, element: kvType.element,
      sketches: sketches)
  }

  /// The ids of a prompt that stands at the beginning of a context, or later in one.
  public func tokens(
    of prompt: GenerationRequest.Prompt, atBeginning: Bool
  ) throws -> [TokenID] {
    let begin = atBeginning ? beginToken.map { [$0] } ?? [] : []
    switch prompt {
    case .tokens(let ids):
      if let wrong = ids.first(where: { $0 < 0 || $0 >= tokenizer.vocabularySize }) {
        throw InfiniteHiPError(
          .request,
          "token \(wrong) is not of the vocabulary, 0 to \(tokenizer.vocabularySize - 1)")
      }
      return ids
    case .raw(let text): return begin + tokenizer.encode(text, special: .parse)
    case .text(let text): return begin + tokenizer.encode(text, special: .text)
    case .pieces(let pieces): return begin + (try encode(pieces))
    case .message(let message):
      guard let chatTemplate else {
        throw InfiniteHiPError(.model, chatTemplateProblem ?? "the model has no chat template")
      }
      var pieces = chatTemplate.render([message], openingAnswer: true)
      // The answer before ended at its last word: its turn is closed here.
      if !atBeginning { pieces = [.control(chatTemplate.endOfTurn), .text("\n")] + pieces }
      return begin + (try encode(pieces))
    }
  }

  private func encode(_ pieces: [ChatTemplate.Piece]) throws -> [TokenID] {
    try pieces.flatMap { piece in
      switch piece {
      case .text(let text): return tokenizer.encode(text, special: .text)
      case .control(let name):
        guard let token = tokenizer.specialToken(name) else {
          throw InfiniteHiPError(
            .model, "\(path): the chat template needs the token \(name), which the vocabulary lacks"
          )
        }
        return [token]
      }
    }
  }
}
