// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute
public import HiPGrammar
internal import HiPKVFiles
public import HiPModelFiles
public import HiPModels
internal import HiPTemplates
public import HiPTokenization
internal import Synchronization

/// A model that is ready to read and answer.
///
/// ```swift
/// let model = try await LanguageModel.load("model.gguf") { try CPUBackend() }
/// let session = try await model.makeSession()
/// let request = GenerationRequest(.message(ChatMessage(role: .user, content: "Hello")))
/// for try await event in session.respond(to: request) {
///   if case .text(let text) = event { print(text, terminator: "") }
/// }
/// ```
public final class LanguageModel: Sendable {
  /// What the file says of the model.
  public let description: ModelDescription
  /// How sessions store keys and values.
  public let kvType: KVType
  /// The most bytes that the keys and values of all sessions take together.
  public let cacheLimit: Int
  let engine: Engine
  private let vocabulary = Mutex<TokenTrie?>(nil)

  /// Where it was loaded from.
  public var path: String { description.path }
  /// What the weights make up.
  public var architecture: DecoderArchitecture { description.architecture }
  /// Text to tokens and back.
  public var tokenizer: any Tokenizer { description.tokenizer }
  /// How conversations are written; nil when `chatTemplateProblem` says why not.
  public var chatTemplate: ChatTemplate? { description.chatTemplate }
  /// Why there is no chat template.
  public var chatTemplateProblem: String? { description.chatTemplateProblem }
  /// What a text begins with, if anything.
  public var beginToken: TokenID? { description.beginToken }
  /// Tokens that end an answer.
  public var endTokens: Set<TokenID> { description.endTokens }
  /// Bytes of the weights on the device.
  public let weightByteCount: Int
  /// Whether all of its keys and values lie in the memory of a device of its own.
  private let hasOwnMemory: Bool

  /// Loads a GGUF file or a Hugging Face folder onto a device.
  ///
  /// Weights are mapped, not copied, unless they are rounded.
  /// - Parameters:
  ///   - path: the file or folder.
  ///   - template: a chat template in place of the model's own.
  ///   - kvType: how sessions store keys and values; `q8` takes about half the memory.
  ///   - weights: what matrices are rounded to; nil: they stay as they are.
  ///   - cacheLimit: the most bytes that the keys and values of all sessions take together; nil: what the
  ///     machine has beside the weights.
  ///   - tiers: memory and files for keys and values, in place of `cacheLimit`; nil: all stay in memory.
  ///   - makeBackend: makes the device, on the thread that will use it.
  /// - Throws: `FileError`, `TokenizerError` or `ComputeError`, naming what is wrong.
  public static func load(
    _ path: String, template: ModelDescription.TemplateSource? = nil, kvType: KVType = .f16,
    weights: WeightFormat? = nil, cacheLimit: Int? = nil, tiers: KVTiers? = nil,
    on makeBackend: @escaping @Sendable () throws -> any ComputeBackend
  ) async throws -> LanguageModel {
    try await LanguageModel(
      ModelFile(path: path), template: template, kvType: kvType, weights: weights,
      cacheLimit: cacheLimit, tiers: tiers, on: makeBackend)
  }

  /// Places the model of an opened file or folder on a device.
  public init(
    _ file: ModelFile, template: ModelDescription.TemplateSource? = nil, kvType: KVType = .f16,
    weights: WeightFormat? = nil, cacheLimit: Int? = nil, tiers: KVTiers? = nil,
    on makeBackend: @escaping @Sendable () throws -> any ComputeBackend
  ) async throws {
    try Self.checkAddressSpace(file)
    let description = try ModelDescription(file, template: template)
    self.description = description
    self.kvType = kvType
    let architecture = description.architecture
    try kvType.check(headSize: architecture.attention.headSize)
    let working = architecture.activationByteCount
    engine = Engine()
    do {
      try await engine.start {
        let backend = try makeBackend()
        let own = backend.ownMemoryByteCount
        let room = own ?? MachineMemory.physicalByteCount
        guard working < room else {
          throw InfiniteHiPError(
            .outOfMemory(neededBytes: working),
            "\(file.path): one step of this model takes \(working / 1_000_000) MB, more memory than "
              + "\(own == nil ? "this machine has" : "the GPU has left")")
        }
        let needed = working + description.weightByteCount
        guard own.map({ needed < $0 }) ?? true else {
          throw InfiniteHiPError(
            .outOfMemory(neededBytes: needed),
            "\(file.path): weights and a step of this model take \(needed / 1_000_000) MB, and the GPU has "
              + "\(room / 1_000_000) MB left; take a file of fewer bits, close other programs on it, or compute on the "
              + "CPU (--device cpu)")
        }
        let limit =
          tiers?.memoryByteCount ?? cacheLimit
          ?? max(0, room - working - description.weightByteCount)
        let model = try DecoderModel(description.plan, on: backend, rounding: weights)
        guard let tiers else { return ModelRunner(model, capacity: limit) }
        let identity = try ModelIdentity(
          file, rounding: weights, kernels: model.backend.arithmetic)
        return try ModelRunner(model, identity, tiers, capacity: limit)
      }
    } catch let error as KVFileError {
      throw InfiniteHiPError(.lowerTier, error.message, cause: error)
    }
    let facts = try await engine.ask {
      ($0.model.weightByteCount, $0.blocks.capacity, $0.backend.ownMemoryByteCount != nil)
    }
    (weightByteCount, self.cacheLimit, hasOwnMemory) = facts
  }

  /// Throws when the process may not have the addresses that the model takes at least: running out of them in the
  /// midst of things ends the process.
  private static func checkAddressSpace(_ file: ModelFile) throws(InfiniteHiPError) {
    guard let left = MachineMemory.freeAddressSpace else { return }
    let needed = file.weightByteCount + 128_000_000
    guard needed > left else { return }
    throw InfiniteHiPError(
      .outOfMemory(neededBytes: needed),
      "\(file.path): this model takes \(needed / 1_000_000) MB of addresses at least, and the process may have "
        + "\(left / 1_000_000) MB more; raise the limit (ulimit -v)")
  }

  /// Opens an empty session.
  ///
  /// Where `attention` would reach beyond the trained length, the session has one with a smaller budget.
  /// - Parameters:
  ///   - attention: what its tokens attend to.
  ///   - contextLimit: the most tokens that prompt and answers may have together. A ceiling: memory
  ///     is taken as tokens come.
  ///   - prefixes: whether it shares the beginning of its text with other sessions. Answers are the same to the bit;
  ///     under H2O, and where positions are stretched, nothing is shared.
  ///   - sketched: policies whose sketches are kept besides, for whoever observes the session.
  public func makeSession(
    attention: AttentionChoice = .automatic, contextLimit: Int = defaultContextLimit,
    prefixes: PrefixSharing = .none, alsoSketching sketched: [AttentionPolicy] = []
  ) async throws -> Session {
    guard contextLimit > 0 else {
      throw InfiniteHiPError(.request, "the context is \(contextLimit) tokens; it must be positive")
    }
    let attention = try fitted(attention, contextLimit: contextLimit)
    try checkLayers(attention)
    let layers = LayerAttention(attention, trainedLength: architecture.trainedLength)
    let use = SequenceUse(
      policy: attention.policy,
      format: kvFormat([attention.policy] + sketched), length: contextLimit,
      denseLength: layers.denseLength)
    do {
      return Session(
        model: self, sequence: try await engine.open(layers, use), attention: attention,
        contextLimit: contextLimit, prefixes: prefixes)
    } catch let error as ComputeError {
      throw InfiniteHiPError(error)
    }
  }

  /// Opens a session that begins with a saved context; sketches are read now, keys and values when something attends
  /// to them.
  /// - Returns: the session, and what is to be known of the file: parts that were damaged are computed anew.
  public func openContext(
    _ path: String, attention: AttentionChoice = .automatic,
    contextLimit: Int = defaultContextLimit
  ) async throws -> (session: Session, notices: [String]) {
    let session = try await makeSession(
      attention: attention, contextLimit: contextLimit, prefixes: .shared)
    do {
      let file = try ContextFile.open(path)
      guard file.tokenCount < contextLimit else {
        throw InfiniteHiPError(
          .contextExceeded(needed: file.tokenCount + 1, limit: contextLimit),
          "\(path) holds \(file.tokenCount) tokens, and the limit is \(contextLimit); raise it (--context)"
        )
      }
      return (session, try await engine.restore(session.sequence, file, session.status))
    } catch let error as KVFileError {
      throw InfiniteHiPError(.lowerTier, error.message, cause: error)
    }
  }

  /// Waits until what was read for later texts is in its files.
  /// - Returns: what users should know, where something could not be written.
  @discardableResult
  public func settleTiers() async -> [String] { await engine.settleTiers() }

  /// What the tiers of keys and values have done so far; nil without tiers.
  public func tierStatistics() async throws -> KVTierStatistics? {
    try await engine.ask { $0.tierStatistics }
  }

  /// Predicts the memory of a context of `tokens` tokens.
  public func memory(of tokens: Int, attention: AttentionChoice) async throws -> MemoryEstimate {
    let attention = try fitted(attention, contextLimit: tokens)
    let layers = LayerAttention(attention, trainedLength: architecture.trainedLength)
    let use = SequenceUse(
      policy: attention.policy, format: kvFormat([attention.policy]), length: tokens,
      denseLength: layers.denseLength)
    let working = try await engine.ask { $0.backend.estimate(use) }
    return MemoryEstimate(
      description, use, weightBytes: weightByteCount, deviceBytes: working)
  }

  /// What a context of `tokens` tokens would take of each tier.
  public func plan(_ tokens: Int, attention: AttentionChoice = .automatic) async throws
    -> ContextPlan
  {
    let attention = try fitted(attention, contextLimit: tokens)
    let format = kvFormat([attention.policy])
    return try await engine.ask { $0.plan(format, tokens: tokens, isInFile: false) }
  }

  /// How its sessions keep keys and values for some policies.
  public func kvFormat(_ policies: [AttentionPolicy]) -> KVFormat {
    architecture.kvFormat(kvType, policies, releasesSliding: !hasOwnMemory)
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

  /// The attention that a context of this model can have: where a policy would put more keys before a query than the
  /// model was trained on, one with a smaller budget.
  /// - Throws: when no budget is small enough.
  public func fitted(
    _ attention: AttentionChoice, contextLimit: Int = defaultContextLimit
  ) throws(InfiniteHiPError) -> AttentionChoice {
    let length = architecture.trainedLength
    guard let reach = attention.reach, min(reach, contextLimit) > length else { return attention }
    guard let fitted = attention.fitted(to: length) else {
      throw InfiniteHiPError(
        .request,
        "\"\(attention.name)\" attends over \(reach) positions, more than the \(length) that the model was trained "
          + "on, and cannot be made as small. Give --attention dense, or --context \(length) at most"
      )
    }
    return fitted
  }

  /// Makes answers follow a grammar.
  ///
  /// The first one of a model costs a table of its vocabulary: 0.2 s for 128K tokens.
  public func constraint(_ grammar: Grammar) -> AnswerConstraint {
    let trie = vocabulary.withLock { vocabulary in
      if let vocabulary { return vocabulary }
      let trie = TokenTrie(count: architecture.vocabularySize) { [tokenizer] token in
        tokenizer.isControl(token) || token >= tokenizer.vocabularySize
          ? nil : tokenizer.bytes(of: token)
      }
      vocabulary = trie
      return trie
    }
    return AnswerConstraint(grammar, vocabulary: trie)
  }

  /// What the device calls itself, with the kernels in use.
  public func deviceName() async throws -> String {
    try await engine.ask { $0.backend.name }
  }

  /// Bytes that the keys and values of all sessions take now.
  public func usedCacheByteCount() async throws -> Int {
    try await engine.ask { $0.blocks.residentByteCount }
  }

  /// What the device has done so far.
  public func counters() async throws -> ComputeCounters {
    try await engine.ask { $0.backend.counters }
  }

  /// Tokens that a session holds unless told otherwise: 16 million.
  public static let defaultContextLimit = 1 << 24

  /// The ids of a prompt that stands at the beginning of a context, or later in one.
  /// - Parameter afterAnswer: a turn of the assistant stands before it that nothing has closed.
  public func tokens(
    of prompt: GenerationRequest.Prompt, atBeginning: Bool, afterAnswer: Bool = false
  ) throws -> [TokenID] {
    let begin = atBeginning ? beginToken.map { [$0] } ?? [] : []
    let ids = try uncheckedTokens(of: prompt, after: begin, afterAnswer: afterAnswer)
    let size = architecture.vocabularySize
    if let wrong = ids.first(where: { $0 < 0 || $0 >= size }) {
      throw InfiniteHiPError(
        .request, "token \(wrong) is not of the vocabulary of the model, 0 to \(size - 1)")
    }
    return ids
  }

  private func uncheckedTokens(
    of prompt: GenerationRequest.Prompt, after begin: [TokenID], afterAnswer: Bool
  ) throws -> [TokenID] {
    // What a text begins with itself is not put before it once more.
    func begun(_ ids: [TokenID]) -> [TokenID] { ids.starts(with: begin) ? ids : begin + ids }
    switch prompt {
    case .tokens(let ids), .turn(let ids): return ids
    case .raw(let text): return begun(tokenizer.encode(text, special: .parse))
    case .text(let text): return begin + tokenizer.encode(text, special: .text)
    case .pieces(let pieces): return begun(try encode(pieces))
    case .message(let message):
      guard let chatTemplate else {
        throw InfiniteHiPError(.model, chatTemplateProblem ?? "the model has no chat template")
      }
      do {
        // The answer before ended at its last word: its turn is closed here.
        let pieces =
          try afterAnswer
          ? chatTemplate.renderNext(message)
          : chatTemplate.render([message], openingAnswer: true)
        return begun(try encode(pieces))
      } catch let error as TemplateError {
        throw InfiniteHiPError(
          .request, "the chat template refuses the conversation: \(error)", cause: error)
      }
    }
  }

  private func encode(_ pieces: [ChatTemplate.Piece]) throws(InfiniteHiPError) -> [TokenID] {
    do {
      return try tokenizer.encode(pieces)
    } catch {
      throw InfiniteHiPError(.model, "\(path): \(error)", cause: error)
    }
  }
}
