// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPModelStore
internal import HiPTokenization
internal import InfiniteHiP
internal import Logging
internal import Synchronization

/// Answers requests with the models of a host, as many at once as are admitted.
final class GenerationService: Sendable {
  let host: ModelHost
  let settings: ServerSettings
  let admission: Admission
  let metrics: ServerMetrics
  let logger: Logger
  /// What is under way, by what ends it.
  private let runs = Mutex<[UUID: @Sendable (any Error) -> Void]>([:])

  init(_ host: ModelHost, _ settings: ServerSettings, _ metrics: ServerMetrics, _ logger: Logger) {
    self.host = host
    self.settings = settings
    self.metrics = metrics
    self.logger = logger
    admission = Admission(parallel: settings.parallel, queue: settings.queue)
  }

  /// Begins to answer, in so many ways.
  /// - Returns: once the prompt is being read, or waits for its turn.
  /// - Throws: `ServerError` where it cannot be.
  func start(_ job: GenerationJob, choices: Int = 1, on model: ServedModel, keepAlive: KeepAlive?)
    async throws -> AnswerRun
  {
    try job.checkLength()
    let isAdmitted = try admission.tryEnter()
    let run = AnswerRun()
    let id = UUID()
    runs.withLock { $0[id] = { run.cancel($0) } }
    // Whoever ends everything may have done so just now.
    if admission.isClosed { run.cancel(ServerError.shuttingDown) }
    run.begin { [self] run in
      defer { runs.withLock { $0[id] = nil } }
      if !isAdmitted {
        run.noteStart()
        try await admission.enter()
      }
      defer { admission.leave() }
      try await host.use(model.stored, keepAlive: keepAlive) { [self] model in
        try await serve(job, choices, model, run)
      }
    }
    try await run.started()
    return run
  }

  /// Does work that brings no events, under the same rules: admitted in its turn, ended where the client leaves or the
  /// server ends.
  func perform<Result: Sendable>(
    _ context: ServerContext, _ work: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    let isAdmitted = try admission.tryEnter()
    let task = Task { [self] in
      if !isAdmitted { try await admission.enter() }
      defer { admission.leave() }
      return try await work()
    }
    let id = UUID()
    runs.withLock { $0[id] = { _ in task.cancel() } }
    defer { runs.withLock { $0[id] = nil } }
    let watch = try await context.clientWatch()
    let waiting = watch.add { task.cancel() }
    defer { watch.remove(waiting) }
    do {
      return try await task.value
    } catch is CancellationError where admission.isClosed {
      throw ServerError.shuttingDown
    }
  }

  /// The first choice reads the prompt; the others begin with what it has read.
  private func serve(
    _ job: GenerationJob, _ choices: Int, _ model: ServedModel, _ run: AnswerRun
  ) async throws {
    guard choices > 1 else { return try await serve(job, 0, model, run) {} }
    try await withThrowingTaskGroup(of: Void.self) { group in
      let (isRead, reading) = AsyncStream<Void>.makeStream()
      group.addTask { [self] in
        defer { reading.finish() }
        try await serve(job, 0, model, run) { reading.finish() }
      }
      for await _ in isRead {}
      for index in 1..<choices {
        group.addTask { [self] in
          try await serve(job.choice(index), index, model, run) {}
        }
      }
      try await group.waitForAll()
    }
  }

  private func serve(
    _ job: GenerationJob, _ choice: Int, _ model: ServedModel, _ run: AnswerRun,
    whenRead: @Sendable () -> Void
  ) async throws {
    let session = try await model.model.makeSession(
      attention: job.attention, contextLimit: job.contextLimit, prefixes: .shared)
    let start = run.start
    var parser = job.parser
    var tokens: [GeneratedToken] = []
    var hasCalls = false
    var pace = ReadingPace(start)
    var isFirst = true
    func send(_ parts: [AnswerParser.Part]) {
      for part in parts { if case .call = part { hasCalls = true } }
      guard !parts.isEmpty || !tokens.isEmpty else { return }
      run.yield(choice, .parts(parts, tokens))
      tokens = []
    }
    for try await event in session.respond(to: job.request) {
      switch event {
      case .progress(let prefilled, let count):
        run.noteStart()
        let total = job.promptTokens.count
        run.yield(
          choice,
          .progress(
            processed: total - count + prefilled, total: total, cached: total - count,
            milliseconds: Int((.now - start) / .milliseconds(1))))
        if let speed = pace.note(prefilled) { metrics.notePrefill(speed) }
      case .token(let token): tokens.append(token)
      case .text(let text):
        if isFirst {
          isFirst = false
          whenRead()
          metrics.noteFirstToken(.now - start)
        }
        send(parser.append(text))
      case .finished(let completion):
        send(parser.finish())
        note(completion, job, model)
        let finder = job.messages.map {
          PassageFinder(
            promptTokens: job.promptTokens, tokenizer: model.model.tokenizer, messages: $0)
        }
        run.yield(
          choice,
          .finished(
            AnswerEnd(
              completion: completion, hasCalls: hasCalls,
              passages: finder?.passages(completion.passages))))
      }
    }
    // A stream whose task is cancelled ends without an error.
    try Task.checkCancellation()
  }

  private func note(_ completion: Completion, _ job: GenerationJob, _ model: ServedModel) {
    metrics.note(completion)
    var metadata: Logger.Metadata = [
      "model": "\(model.name)", "prompt": "\(completion.promptTokens)",
      "cached": "\(completion.cachedTokens)", "generated": "\(completion.completionTokens)",
      "attention": "\(completion.policy)",
    ]
    if let place = completion.firstDifference, completion.cachedTokens > 0,
      place < job.promptTokens.count
    {
      // Agents alter what they have sent before: this says where.
      let token = job.promptTokens[place]
      metadata["first_different_token"] = "\(place)"
      metadata["first_different_text"] = "\(model.model.tokenizer.decode([token]).debugDescription)"
    }
    logger.info("answered", metadata: metadata)
    for notice in completion.notices { logger.warning("\(notice)") }
  }

  /// Ends all that is under way, with a reason.
  func shutDown() {
    admission.close()
    for end in runs.withLock({ Array($0.values) }) { end(ServerError.shuttingDown) }
  }
}

/// Tokens per second of a prefill, step by step.
private struct ReadingPace {
  private var time: ContinuousClock.Instant
  private var count = 0

  init(_ start: ContinuousClock.Instant) { time = start }

  /// Nil for the short step at the end of a prompt, which says little.
  mutating func note(_ prefilled: Int) -> Double? {
    let now = ContinuousClock.now
    defer { (time, count) = (now, prefilled) }
    let seconds = (now - time) / .seconds(1)
    return prefilled - count >= 128 && seconds > 0 ? Double(prefilled - count) / seconds : nil
  }
}
