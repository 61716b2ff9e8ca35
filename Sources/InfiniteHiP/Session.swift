// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
internal import HiPCompute
public import HiPModels
public import HiPTokenization
internal import Synchronization

/// A context that a model has read, and answers from.
///
/// A session serves one request at a time; several sessions share the model step by step.
public final class Session: Sendable {
  /// The model.
  public let model: LanguageModel
  /// What the tokens attend to.
  public let attention: AttentionChoice
  private let sequence: Engine.SequenceID
  private let limits: Limits
  private let state: Mutex<State>

  struct Limits: Sendable {
    let context: Int
    let layout: KVLayout
  }

  private struct State {
    var isBusy = false
    /// The request under way has been cancelled and ends within a step.
    var isEnding = false
    /// Tokens that the engine holds.
    var length = 0
    /// Tokens that were generated, but not read back yet.
    var pending: [TokenID] = []
  }

  init(
    model: LanguageModel, sequence: Engine.SequenceID, attention: AttentionChoice, limits: Limits
  ) {
    self.model = model
    self.sequence = sequence
    self.attention = attention
    self.limits = limits
    state = Mutex(State())
  }

  private init(forking other: Session, sequence: Engine.SequenceID) {
    model = other.model
    attention = other.attention
    limits = other.limits
    self.sequence = sequence
    var copy = other.state.withLock { $0 }
    copy.isBusy = false
    state = Mutex(copy)
  }

  deinit {
    let engine = model.engine
    let sequence = sequence
    Task { await engine.close(sequence) }
  }

  /// Tokens in the context so far.
  public var tokenCount: Int { state.withLock { $0.length + $0.pending.count } }

  /// The most tokens that the context may have.
  public var contextLimit: Int { limits.context }

  /// Name of the policy that a context of the present length runs under.
  public var policyName: String { policyName(at: tokenCount) }

  private func policyName(at length: Int) -> String {
    attention.nameOfPolicy(
      contextLength: length, trainedLength: model.architecture.trainedLength)
  }

  /// A second session that has read the same context.
  ///
  /// Nothing is copied but its last page.
  public func fork() async throws -> Session {
    try await begin()
    defer { end() }
    return Session(forking: self, sequence: await model.engine.fork(sequence))
  }

  /// Forgets the whole context.
  public func clear() async throws {
    try await begin()
    defer { end() }
    await model.engine.truncate(sequence, to: 0)
    state.withLock {
      $0.length = 0
      $0.pending = []
    }
  }

  /// Reads the request's prompt and answers it.
  ///
  /// Stopping the iteration, or cancelling its task, ends the work within one prefill step of 1,024
  /// tokens; what has been read by then stays in the context.
  public func respond(
    to request: GenerationRequest
  ) -> AsyncThrowingStream<GenerationEvent, any Error> {
    AsyncThrowingStream { continuation in
      let task = Task {
        do {
          try await begin()
        } catch {
          continuation.finish(throwing: error)
          return
        }
        // Whoever sees the end may send the next request at once: the session is free before.
        do {
          let completion = try await generate(request) { continuation.yield($0) }
          end()
          continuation.yield(.finished(completion))
          continuation.finish()
        } catch {
          end()
          continuation.finish(throwing: error)
        }
      }
      continuation.onTermination = { [self] reason in
        guard case .cancelled = reason else { return }
        state.withLock { $0.isEnding = $0.isBusy }
        task.cancel()
      }
    }
  }

  /// Reads `tokens` and returns the negative log-likelihood in nats of every one but the first,
  /// given those before it.
  public func negativeLogLikelihoods(
    of tokens: [TokenID], progress: @Sendable (_ read: Int, _ of: Int) -> Void = { _, _ in }
  ) async throws -> [Double] {
    try await begin()
    defer { end() }
    let ids = try model.tokens(of: .tokens(tokens), atBeginning: tokenCount == 0)
    guard ids.count >= 2 else {
      throw InfiniteHiPError(
        .request,
        "there are \(ids.count) tokens; two or more are needed to predict one from another")
    }
    // What was generated last has not been read yet.
    let pending = state.withLock { $0.pending }
    try check(newTokens: pending.count + ids.count - 1, generated: 0)
    if !pending.isEmpty {
      _ = try await step(pending, logits: false)
      state.withLock { $0.pending = [] }
    }
    // Logits of all tokens of a step are held at once: no more than 64 MB of them, or of 256 tokens,
    // which are the blocks that share a first stage.
    let largest = max(256, (1 << 24) / model.tokenizer.vocabularySize / 256 * 256)
    var result: [Double] = []
    result.reserveCapacity(ids.count)
    var next = 0
    while next < ids.count - 1 {
      try Task.checkCancellation()
      let size = min(largest, stepSize(at: state.withLock { $0.length }))
      let end = min(ids.count - 1, next + size)
      result += try await model.engine.negativeLogLikelihoods(
        sequence, Array(ids[next..<end]), targets: Array(ids[next + 1...end]))
      state.withLock { $0.length += end - next }
      next = end
      progress(next, ids.count - 1)
    }
    return result
  }

  /// Reads `tokens`, ids as they are, and lets `observe` look at each layer of the last `observed` of
  /// them, which it sees in steps of at most 1,024.
  ///
  /// `observe` runs on the engine's thread and must not keep what it is given.
  public func read(
    _ tokens: [TokenID], observing observed: Int = 0,
    observe: (@Sendable (LayerObservation) -> Void)? = nil,
    progress: @Sendable (_ read: Int, _ of: Int) -> Void = { _, _ in }
  ) async throws {
    try await begin()
    defer { end() }
    let ids =
      try state.withLock { $0.pending } + model.tokens(of: .tokens(tokens), atBeginning: false)
    try check(newTokens: ids.count, generated: 0)
    let seen = ids.count - min(observed, ids.count)
    var next = 0
    while next < ids.count {
      try Task.checkCancellation()
      var end = min(ids.count, next + stepSize(at: state.withLock { $0.length }))
      if next < seen { end = min(end, seen) }
      _ = try await model.engine.step(
        sequence, Array(ids[next..<end]), logits: .none, observe: next >= seen ? observe : nil)
      state.withLock {
        $0.length += end - next
        $0.pending = []
      }
      next = end
      progress(next, ids.count)
    }
  }

  // MARK: Serving a request

  /// Takes the session, after a cancelled request has ended.
  private func begin() async throws {
    while true {
      let (wasBusy, isEnding) = state.withLock { state in
        defer { state.isBusy = true }
        return (state.isBusy, state.isEnding)
      }
      guard wasBusy else { return }
      guard isEnding else {
        throw InfiniteHiPError(
          .busy, "the session is answering another request; wait for it, or fork the session before"
        )
      }
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  private func end() {
    state.withLock {
      $0.isBusy = false
      $0.isEnding = false
    }
  }

  /// Steps end at multiples of the largest one, so that blocks of queries fall alike however a text
  /// is read.
  private func stepSize(at length: Int) -> Int {
    DecoderModel.largestStep - length % DecoderModel.largestStep
  }

  private func generate(
    _ request: GenerationRequest, _ yield: (GenerationEvent) -> Void
  ) async throws -> Completion {
    try request.sampling.check()
    guard request.maximumTokens >= 0 else {
      throw InfiniteHiPError(
        .request, "the most tokens to generate are \(request.maximumTokens); give 0 or more")
    }
    let cached = state.withLock { $0.length }
    var prompt = state.withLock { $0.pending }
    let new = try model.tokens(of: request.prompt, atBeginning: tokenCount == 0)
    guard !prompt.isEmpty || new.contains(where: { $0 != model.beginToken }) else {
      throw InfiniteHiPError(.request, "the prompt is empty; give a text to read")
    }
    prompt += new
    try check(newTokens: prompt.count, generated: min(1, request.maximumTokens))
    let clock = ContinuousClock()
    let start = clock.now
    yield(.progress(read: 0, of: prompt.count))
    var logits: [Float] = []
    var read = 0
    // The end of the prompt, where its question stands, is read by itself; without a prompt the last
    // answer goes on.
    let question =
      request.maximumTokens > 0 && !new.isEmpty
      ? LayerAttention(attention, trainedLength: model.architecture.trainedLength)
        .questionLength(endingAt: cached + prompt.count) : nil
    let questionStart = question.map { max(0, prompt.count - $0) }
    while read < prompt.count {
      try Task.checkCancellation()
      let end: Int
      if let questionStart, read >= questionStart {
        end = prompt.count
        logits = try await model.engine.ask(sequence, Array(prompt[read..<end]))
        state.withLock { $0.length += end - read }
      } else if new.isEmpty, request.maximumTokens > 0 {
        end = read + 1
        logits = try await model.engine.write(sequence, prompt[read])
        state.withLock { $0.length += 1 }
      } else {
        end = min(questionStart ?? prompt.count, read + stepSize(at: cached + read))
        logits = try await step(
          Array(prompt[read..<end]), logits: end == prompt.count && request.maximumTokens > 0)
      }
      // Tokens count as read one by one: a cancelled request leaves a context that can go on.
      let consumed = end - read
      state.withLock { $0.pending.removeFirst(min($0.pending.count, consumed)) }
      read = end
      yield(.progress(read: read, of: prompt.count))
    }
    let prefilled = clock.now
    var answer = Answer(request, model)
    while !answer.isFinished {
      try Task.checkCancellation()
      guard cached + prompt.count + answer.tokenCount < limits.context else {
        answer.finish(.context, yield)
        break
      }
      let token = answer.next(logits, yield)
      guard let token else { break }
      state.withLock { $0.pending = [token] }
      guard !answer.isFinished else { break }
      logits = try await model.engine.write(sequence, token)
      state.withLock {
        $0.length += 1
        $0.pending = []
      }
    }
    let finished = clock.now
    return Completion(
      reason: answer.reason, promptTokens: cached + prompt.count, cachedTokens: cached,
      completionTokens: answer.tokenCount, policy: policyName(at: state.withLock { $0.length }),
      prefillSeconds: (prefilled - start).seconds, decodeSeconds: (finished - prefilled).seconds)
  }

  private func step(_ tokens: [TokenID], logits: Bool) async throws -> [Float] {
    let result = try await model.engine.step(sequence, tokens, logits: logits ? .last : .none)
    state.withLock { $0.length += tokens.count }
    return result
  }

  private func check(newTokens: Int, generated: Int) throws(InfiniteHiPError) {
    let length = state.withLock { $0.length }
    let needed = length + newTokens + generated
    guard needed <= limits.context else {
      throw InfiniteHiPError(
        .contextExceeded(needed: needed, limit: limits.context),
        "the context would grow to \(needed) tokens (\(newTokens) new ones), beyond the limit of "
          + "\(limits.context). Shorten the text or raise the limit (--context)")
    }
    let bytes = limits.layout.byteCount(forTokens: needed)
    let physical = MachineMemory.physicalByteCount
    guard bytes <= physical else {
      throw InfiniteHiPError(
        .outOfMemory(neededBytes: bytes, physicalBytes: physical),
        "the keys and values of \(needed) tokens take \(bytes / 1_000_000) MB, and this machine has "
          + "\(physical / 1_000_000) MB of memory. Shorten the text")
    }
  }
}

/// The answer to one request as it grows.
private struct Answer {
  private let endTokens: Set<TokenID>
  private let tokenizer: any Tokenizer
  private let maximumTokens: Int
  private var sampler: Sampler
  private var decoder = IncrementalDecoder()
  private var stops: StopMatcher
  private(set) var tokenCount = 0
  private(set) var reason = Completion.Reason.length
  private(set) var isFinished: Bool

  init(_ request: GenerationRequest, _ model: LanguageModel) {
    endTokens = model.endTokens
    tokenizer = model.tokenizer
    maximumTokens = request.maximumTokens
    sampler = Sampler(request.sampling)
    stops = StopMatcher(request.stop)
    isFinished = maximumTokens == 0
  }

  /// Chooses the next token and emits its text; nil when it ends the turn.
  mutating func next(_ logits: [Float], _ yield: (GenerationEvent) -> Void) -> TokenID? {
    let token = sampler.next(logits)
    tokenCount += 1
    if endTokens.contains(token) {
      finish(.stop, yield)
      return nil
    }
    let bytes = tokenizer.isControl(token) ? [] : tokenizer.bytes(of: token)
    let (text, stopped) = stops.append(decoder.append(bytes))
    if !text.isEmpty { yield(.text(text)) }
    if stopped {
      reason = .stop
      isFinished = true
    } else if tokenCount >= maximumTokens {
      finish(.length, yield)
    }
    return token
  }

  /// Ends the answer and emits what was held back.
  mutating func finish(_ reason: Completion.Reason, _ yield: (GenerationEvent) -> Void) {
    self.reason = reason
    isFinished = true
    let (text, _) = stops.append(decoder.finish())
    let rest = text + stops.finish()
    if !rest.isEmpty { yield(.text(rest)) }
  }
}

extension Duration {
  /// The duration in seconds.
  fileprivate var seconds: Double {
    Double(components.seconds) + Double(components.attoseconds) * 1e-18
  }
}
