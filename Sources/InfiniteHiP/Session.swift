// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
internal import HiPCompute
package import HiPModels
public import HiPTokenization

/// A context that a model answers from.
///
/// A session serves one request at a time; what several sessions of a model want is computed together,
/// step by step, each as if it were alone.
public final class Session: Sendable {
  /// The model.
  public let model: LanguageModel
  /// What the tokens attend to.
  public let attention: AttentionChoice
  /// The most tokens that the context may have.
  public let contextLimit: Int
  /// Whether it begins with what earlier sessions have prefilled of the same text.
  public let prefixes: PrefixSharing
  let sequence: SequenceID
  let status: SessionStatus

  init(
    model: LanguageModel, sequence: SequenceID, attention: AttentionChoice, contextLimit: Int,
    prefixes: PrefixSharing, status: SessionStatus = SessionStatus()
  ) {
    self.prefixes = prefixes
    self.model = model
    self.sequence = sequence
    self.attention = attention
    self.contextLimit = contextLimit
    self.status = status
  }

  deinit {
    let (engine, sequence) = (model.engine, sequence)
    Task { await engine.close(sequence) }
  }

  /// Tokens in the context so far.
  public var tokenCount: Int { status.tokenCount }

  /// Name of the policy that a context of the present length runs under.
  public var policyName: String {
    attention.nameOfPolicy(
      contextLength: tokenCount, trainedLength: model.architecture.trainedLength)
  }

  /// A second session that begins with the same context.
  ///
  /// Nothing is copied but its last block, when either of them goes on.
  public func fork() async throws -> Session {
    let fork = try await model.engine.fork(sequence, status)
    return Session(
      model: model, sequence: fork.sequence, attention: attention, contextLimit: contextLimit,
      prefixes: prefixes, status: fork.status)
  }

  /// Forgets the whole context.
  public func clear() async throws {
    guard let ticket = status.makeTicket() else { throw InfiniteHiPError.busy }
    defer { ticket.end() }
    try await model.engine.clear(sequence, status)
  }

  /// Saves what the session, still empty, reads from now on, to go on from later.
  ///
  /// What was read of the same text before it was stopped is taken from `path.part`. `finishSaving` completes the file.
  public func save(to path: String) async throws {
    guard tokenCount == 0 else {
      throw InfiniteHiPError(.request, "only a session that has read nothing yet can be saved")
    }
    try await model.engine.save(sequence, to: path)
  }

  /// The saved context at a path, where it is complete, of this session's kind and of just this prompt.
  public func savedContext(
    at path: String, of prompt: GenerationRequest.Prompt
  ) async throws -> SavedContext? {
    let tokens = try model.tokens(of: prompt, atBeginning: true)
    return try await model.engine.savedContext(sequence, path, tokens)
  }

  /// Completes the file that the session is saved to.
  public func finishSaving() async throws -> SavedContext {
    try await model.engine.finishSaving(sequence)
  }

  /// Stores the request's prompt and answers it.
  ///
  /// Stopping the iteration, or cancelling its task, ends the work within one step of 1,024 tokens; what
  /// is stored by then stays in the context.
  public func respond(
    to request: GenerationRequest
  ) -> AsyncThrowingStream<GenerationEvent, any Error> {
    AsyncThrowingStream { continuation in
      serve(
        { [self] in try work(of: request) },
        onCancel: { cancel in
          continuation.onTermination = { if case .cancelled = $0 { cancel() } }
        }
      ) { event in
        switch event {
        case .progress(let prefilled, let count):
          continuation.yield(.progress(prefilled: prefilled, of: count))
        case .token(let token): continuation.yield(.token(token))
        case .text(let text): continuation.yield(.text(text))
        case .negativeLogLikelihoods, .alternatives, .hiddenState: break
        case .finished(let completion):
          continuation.yield(.finished(completion))
          continuation.finish()
        case .failed(let error): continuation.finish(throwing: error)
        }
      }
    }
  }

  private func work(of request: GenerationRequest) throws -> Prompt {
    try request.check(vocabularySize: model.architecture.vocabularySize)
    let new = try model.tokens(
      of: request.prompt, atBeginning: tokenCount == 0, afterAnswer: status.endsInAnswer)
    guard tokenCount > 0 || new.contains(where: { $0 != model.beginToken }) else {
      throw InfiniteHiPError(.request, "the prompt is empty; give a text to read")
    }
    let opensAnswer: Bool? =
      switch request.prompt {
      case .message, .pieces, .turn: request.maximumTokens > 0
      // Without tokens of its own a request goes on with what stands there.
      case .raw, .text, .tokens: new.isEmpty ? nil : false
      }
    let answer = Answer(request, tokenizer: model.tokenizer, endTokens: model.endTokens)
    return Prompt(tokens: new, goal: .answer(answer), opensAnswer: opensAnswer)
  }

  /// Stores `tokens` and returns the negative log-likelihood in nats of every one but the first,
  /// given those before it.
  public func negativeLogLikelihoods(
    of tokens: [TokenID],
    progress: @escaping @Sendable (_ prefilled: Int, _ of: Int) -> Void = { _, _ in }
  ) async throws -> [Double] {
    let ids = try model.tokens(of: .tokens(tokens), atBeginning: tokenCount == 0)
    guard ids.count >= 2 else {
      throw InfiniteHiPError(
        .request,
        "there are \(ids.count) tokens; two or more are needed to predict one from another")
    }
    return try await complete(
      { Prompt(tokens: ids.dropLast(), goal: .score(targets: Array(ids.dropFirst()))) },
      progress: progress
    ).negativeLogLikelihoods
  }

  /// Stores `prompt`, then writes `tokens` behind it one by one, as an answer is written, and returns the negative
  /// log-likelihood in nats of every one of them but the first.
  ///
  /// In reading each block of queries selects anew; in writing an answer attends at first where its question looked. What
  /// that leaves out shows here.
  public func negativeLogLikelihoods(
    ofWriting tokens: [TokenID], behind prompt: [TokenID],
    progress: @escaping @Sendable (_ prefilled: Int, _ of: Int) -> Void = { _, _ in }
  ) async throws -> [Double] {
    let ids = try model.tokens(of: .tokens(prompt), atBeginning: tokenCount == 0)
    _ = try model.tokens(of: .tokens(tokens), atBeginning: false)
    guard !ids.isEmpty, tokens.count >= 2 else {
      throw InfiniteHiPError(
        .request,
        "\(tokens.count) tokens are to be written behind \(ids.count); two or more behind one or more are needed"
      )
    }
    let values = try await complete(
      { [model] in
        Prompt(
          tokens: ids, goal: .answer(Answer(dictating: tokens, tokenizer: model.tokenizer)))
      }, progress: progress
    ).negativeLogLikelihoods
    guard values.count == tokens.count - 1 else {
      throw InfiniteHiPError(
        .contextExceeded(needed: tokenCount + tokens.count - values.count, limit: tokenCount),
        "the context is full after \(values.count + 1) of \(tokens.count) tokens that were to be written; raise the "
          + "limit (--context)")
    }
    return values
  }

  /// Stores `tokens` and returns each but the first with its probability, given those before it, and the most
  /// probable ones in its place.
  /// - Parameter alternatives: how many of those, 1 to 20.
  public func probabilities(
    of tokens: [TokenID], alternatives: Int
  ) async throws -> [GeneratedToken] {
    let ids = try model.tokens(of: .tokens(tokens), atBeginning: tokenCount == 0)
    guard ids.count >= 2 else { return [] }
    let goal = SequenceWork.Goal.score(
      targets: Array(ids.dropFirst()), alternatives: min(max(alternatives, 1), 20))
    let found = try await complete({ Prompt(tokens: ids.dropLast(), goal: goal) }) { _, _ in }
    return zip(ids.dropFirst(), zip(found.negativeLogLikelihoods, found.alternatives)).map {
      id, row in
      GeneratedToken(
        choice: .init(id: id, logProbability: -row.0),
        alternatives: zip(row.1.ids, row.1.logits).map {
          .init(id: $0, logProbability: Double($1) - row.1.logSumExp)
        })
    }
  }

  /// The mean of the last layer's normalised hidden states of `tokens`, of length 1: `[hiddenSize]`.
  public func embedding(of tokens: [TokenID]) async throws -> [Double] {
    let ids = try model.tokens(of: .tokens(tokens), atBeginning: false)
    let sum = try await complete({ Prompt(tokens: ids, goal: .embed) }) { _, _ in }.hiddenState
    let length = sum.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return length > 0 ? sum.map { $0 / length } : sum
  }

  /// Stores `tokens`, and lets each layer of the last `observed` of them be observed.
  package func read(
    _ tokens: [TokenID], observing observed: Int = 0,
    observe: (@Sendable (LayerObservation) -> Void)? = nil,
    progress: @escaping @Sendable (_ prefilled: Int, _ of: Int) -> Void = { _, _ in }
  ) async throws {
    let ids = try model.tokens(of: .tokens(tokens), atBeginning: false)
    _ = try await complete(
      { Prompt(tokens: ids, goal: .store(observed: observed)) }, observe: observe,
      progress: progress)
  }
}
