// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPModels
internal import HiPTokenization
internal import Synchronization

/// The tokens of a request, and what is wanted of them.
struct Prompt: Sendable {
  let tokens: [TokenID]
  let goal: SequenceWork.Goal
  /// Whether the context ends in an answer once they are stored, one whose turn nothing has closed; nil: as
  /// before.
  var opensAnswer: Bool? = false
}

/// Whether the sessions of a model share what they have in common at the beginning of their texts.
public enum PrefixSharing: Sendable, Hashable {
  /// A session computes all of its text.
  case none
  /// It begins with what an earlier one has prefilled of the same text, and leaves what it prefills for others.
  case shared
}

/// What a session asks of the engine, and where the answer goes.
struct Job: Sendable {
  let sequence: SequenceID
  let tokens: [TokenID]
  let goal: SequenceWork.Goal
  /// The most tokens of the context.
  let contextLimit: Int
  /// Known to the session too.
  let ticket: JobTicket
  /// Whether the context ends in an answer once the prompt is stored; nil: as before.
  let opensAnswer: Bool?
  /// Whether it begins with what is known of its text, and leaves what it learns of it.
  let prefixes: PrefixSharing
  /// What is to be kept of what it prefills; nil where that has been done, or its tokens are not the whole text.
  var prefixKind: PrefixKind?
  /// The first token that differed from a known text, of which less could be used.
  var firstDifference: Int?
  /// Called for each layer of the tokens that are observed.
  var observe: (@Sendable (LayerObservation) -> Void)?
  /// Name of the policy that a context of a length runs under.
  let policyName: @Sendable (Int) -> String
  let deliver: @Sendable (EngineEvent) -> Void

  private let start = ContinuousClock.now
  /// When the prompt was stored.
  private var prefilled: ContinuousClock.Instant?

  init(
    _ sequence: SequenceID, _ prompt: Prompt, contextLimit: Int, prefixes: PrefixSharing,
    ticket: JobTicket,
    policyName: @escaping @Sendable (Int) -> String,
    deliver: @escaping @Sendable (EngineEvent) -> Void
  ) {
    self.sequence = sequence
    tokens = prompt.tokens
    goal = prompt.goal
    opensAnswer = prompt.opensAnswer
    self.contextLimit = contextLimit
    self.prefixes = prefixes
    self.ticket = ticket
    self.policyName = policyName
    self.deliver = deliver
  }

  /// The most tokens that an answer may have; 0 without one.
  var answerTokens: Int {
    if case .answer(let answer) = goal { answer.maximumTokens } else { 0 }
  }

  /// Throws when a context would outgrow its limit.
  func checkContext(of state: SequenceState, newTokens: Int) throws(InfiniteHiPError) {
    let needed = state.length + newTokens + min(1, answerTokens)
    guard needed <= contextLimit else {
      throw InfiniteHiPError(
        .contextExceeded(needed: needed, limit: contextLimit),
        "the context would grow to \(needed) tokens (\(newTokens) new ones), beyond the limit of "
          + "\(contextLimit). Shorten the text or raise the limit (--context)")
    }
  }

  /// Whether an answer has no room for another token.
  func isFull(_ state: SequenceState) -> Bool {
    guard let work = state.work, work.stored == work.tokens.count, answerTokens > 0 else {
      return false
    }
    return state.tokenCount >= contextLimit
  }

  /// Notes how far a sequence is.
  mutating func note(_ state: SequenceState) {
    guard let work = state.work else { return }
    let isStored = work.stored == work.tokens.count
    ticket.note(
      tokenCount: state.tokenCount,
      endsInAnswer: work.stored == 0 ? nil : opensAnswer.map { $0 && isStored })
    if prefilled == nil, isStored { prefilled = .now }
  }

  func yield(_ event: EngineEvent) { deliver(event) }

  /// Tells the end.
  ///
  /// The session is free before: whoever sees the end may send the next request at once.
  func finish(
    _ state: SequenceState, _ work: SequenceWork?, _ passages: [ReadPassage], notices: [String]
  ) {
    let finished = ContinuousClock.now
    let (count, cached) = (work?.tokens.count ?? 0, work?.cached ?? 0)
    ticket.end()
    deliver(
      .finished(
        Completion(
          reason: work?.answer?.reason ?? .length, promptTokens: cached + count,
          cachedTokens: cached, firstDifference: firstDifference,
          completionTokens: work?.answer?.tokenCount ?? 0,
          policy: policyName(state.length),
          prefillSeconds: ((prefilled ?? finished) - start) / .seconds(1),
          decodeSeconds: (finished - (prefilled ?? finished)) / .seconds(1),
          tokens: work?.answer?.tokens ?? [], passages: passages, notices: notices)))
  }

  /// Tells that there is no end.
  func finish(throwing error: any Error) {
    ticket.end()
    deliver(.failed(error))
  }
}

/// What happens to a job; ends with `finished` or `failed`.
enum EngineEvent: Sendable {
  case progress(prefilled: Int, of: Int)
  case token(GeneratedToken)
  case text(String)
  case negativeLogLikelihoods([Double])
  case alternatives([Candidates])
  case hiddenState([Double])
  case finished(Completion)
  case failed(any Error)
}

/// What session and engine both know of a job.
final class JobTicket: Sendable {
  private let status: SessionStatus
  private let cancelled = Atomic<Bool>(false)

  init(_ status: SessionStatus) { self.status = status }

  /// Whether nobody waits for it any more.
  var isCancelled: Bool { cancelled.load(ordering: .acquiring) }
  func cancel() { cancelled.store(true, ordering: .releasing) }

  func note(tokenCount: Int, endsInAnswer: Bool?) {
    status.note(tokenCount: tokenCount, endsInAnswer: endsInAnswer)
  }
  func end() { status.end(self) }
}

/// What a session knows without asking the engine.
final class SessionStatus: Sendable {
  private struct State {
    var tokenCount = 0
    var endsInAnswer = false
    var ticket: JobTicket?
  }

  private let state: Mutex<State>

  /// Of an empty session.
  init() { state = Mutex(State()) }

  private init(_ state: sending State) { self.state = Mutex(state) }

  /// Of a session that goes on from the same context.
  func forked() -> SessionStatus {
    let (count, endsInAnswer) = state.withLock { ($0.tokenCount, $0.endsInAnswer) }
    return SessionStatus(State(tokenCount: count, endsInAnswer: endsInAnswer))
  }

  /// Whether the context ends in an answer to a message, whose turn nothing has closed.
  var endsInAnswer: Bool { state.withLock { $0.endsInAnswer } }

  /// Tokens in the context, stored or not.
  var tokenCount: Int { state.withLock { $0.tokenCount } }

  /// A ticket for the next job; nil while another one is under way that nobody has cancelled.
  func makeTicket() -> JobTicket? {
    state.withLock { state in
      if let ticket = state.ticket, !ticket.isCancelled { return nil }
      let ticket = JobTicket(self)
      state.ticket = ticket
      return ticket
    }
  }

  /// Notes how far the context is; `endsInAnswer` nil: as before.
  func note(tokenCount: Int, endsInAnswer: Bool?) {
    state.withLock {
      $0.tokenCount = tokenCount
      $0.endsInAnswer = endsInAnswer ?? $0.endsInAnswer
    }
  }

  func end(_ ticket: JobTicket) {
    state.withLock { if $0.ticket === ticket { $0.ticket = nil } }
  }
}
