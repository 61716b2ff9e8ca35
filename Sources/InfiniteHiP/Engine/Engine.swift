// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import HiPAttention
internal import HiPCompute
internal import HiPKVFiles
internal import HiPModels
internal import HiPTokenization
internal import Synchronization

/// Owns a model on a device and all sequences, and computes on a thread of its own: a step blocks, and would
/// starve other tasks on the shared pool.
actor Engine {
  private let executor = EngineExecutor()
  private let inbox = Mutex<[Job]>([])
  private var runner: ModelRunner?
  private var scheduler = Scheduler()
  private var pace = PrefillPace()
  private var states: [SequenceID: SequenceState] = [:]
  private var jobs: [SequenceID: Job] = [:]
  private var isRunning = false
  /// Files that sequences are saved to as they are read.
  private var savePaths: [SequenceID: String] = [:]

  nonisolated var unownedExecutor: UnownedSerialExecutor {
    unsafe executor.asUnownedSerialExecutor()
  }

  /// Makes the model's runner, on the engine's thread, where it stays.
  func start(_ makeRunner: @Sendable () throws -> ModelRunner) throws { runner = try makeRunner() }

  /// Asks the device and its memory.
  func ask<Result: Sendable>(_ question: @Sendable (ModelRunner) throws -> Result) throws -> Result
  {
    try question(loaded)
  }

  private var loaded: ModelRunner {
    guard let runner else { preconditionFailure("the engine was not started") }
    return runner
  }

  // MARK: Sequences

  /// An empty sequence.
  func open(_ attention: LayerAttention, _ use: SequenceUse) throws -> SequenceID {
    try loaded.backend.check(use)
    let id = loaded.open(use.format)
    states[id] = SequenceState(attention: attention)
    return id
  }

  /// A sequence that begins as another one is now, and what its session knows of it.
  func fork(
    _ id: SequenceID, _ status: SessionStatus
  ) throws -> (sequence: SequenceID, status: SessionStatus) {
    let state = try idleState(id)
    let copy = loaded.fork(id)
    states[copy] = state.forked()
    return (copy, status.forked())
  }

  /// Forgets a sequence's tokens.
  func clear(_ id: SequenceID, _ status: SessionStatus) throws {
    _ = try idleState(id)
    loaded.clear(id)
    states[id]?.clear()
    status.note(tokenCount: 0, endsInAnswer: false)
  }

  /// Ends what was cancelled, so that the session's status is that of its context.
  func settle() { takeJobs() }

  /// Forgets a sequence.
  func close(_ id: SequenceID) {
    drop(id, throwing: CancellationError())
    states[id] = nil
    savePaths[id] = nil
    loaded.close(id)
  }

  private func idleState(_ id: SequenceID) throws -> SequenceState {
    takeJobs()
    guard jobs[id] == nil, let state = states[id] else { throw InfiniteHiPError.busy }
    return state
  }

  // MARK: Jobs

  /// Serves a job as soon as there is room in a step.
  nonisolated func post(_ job: Job) {
    inbox.withLock { $0.append(job) }
    Task { await run() }
  }

  /// The loop: plan, run, publish, until nobody wants anything.
  private func run() async {
    guard !isRunning else { return }
    isRunning = true
    while let plan = nextPlan() {
      do {
        let start = ContinuousClock.now
        let outputs = try loaded.run(plan, observe: observer(of: plan))
        pace.note(plan, took: .now - start)
        for (slice, output) in zip(plan.slices, outputs) { publish(slice, output) }
      } catch {
        if error.code == .damaged, repair(plan) { continue }
        for slice in plan.slices { drop(slice.sequence, throwing: InfiniteHiPError(error)) }
      }
      // Whoever wants something of the engine has its turn between two steps.
      await Task.yield()
    }
    isRunning = false
  }

  /// Does something with a sequence, once more where what it read was damaged and could be computed anew.
  private func mending<Result>(
    _ id: SequenceID, _ attention: LayerAttention, _ body: () throws -> Result
  ) throws -> Result {
    do {
      return try body()
    } catch let error as ComputeError where error.code == .damaged {
      guard try loaded.repair(id, attention) else { throw error }
      return try body()
    }
  }

  /// Computes anew what a step has found damaged; false when there was nothing that it could.
  private func repair(_ plan: StepPlan) -> Bool {
    var isRepaired = false
    for slice in plan.slices {
      do {
        if try loaded.repair(slice.sequence, slice.attention) { isRepaired = true }
        // Whatever a void step has selected may be of what was not there.
        states[slice.sequence]?.abortStep()
      } catch {
        drop(slice.sequence, throwing: InfiniteHiPError(error))
      }
    }
    return isRepaired
  }

  private func nextPlan() -> StepPlan? {
    takeJobs()
    let rows = pace.rows(isShared: scheduler.count > 1)
    while let plan = scheduler.next(
      prefillRows: rows, { states[$0]?.nextSlice(of: $0, prefillRows: rows) })
    {
      // A sequence for which there is no room leaves the step; the others go on.
      var isComplete = true
      for slice in plan.slices where jobs[slice.sequence] != nil {
        do {
          try mending(slice.sequence, slice.attention) {
            try loaded.reserve(slice.tokens.count, for: slice.sequence)
          }
        } catch {
          drop(slice.sequence, throwing: InfiniteHiPError(wrapping: error))
          isComplete = false
        }
      }
      if isComplete { return plan }
    }
    return nil
  }

  /// Ends what was cancelled and begins what is new.
  private func takeJobs() {
    for (id, job) in jobs where job.ticket.isCancelled { drop(id, throwing: CancellationError()) }
    let new = inbox.withLock { inbox in
      defer { inbox = [] }
      return inbox
    }
    for job in new { begin(job) }
  }

  private func begin(_ new: Job) {
    var job = new
    let id = job.sequence
    guard !job.ticket.isCancelled, var state = states[id] else {
      job.finish(throwing: CancellationError())
      return
    }
    do {
      guard jobs[id] == nil else { throw InfiniteHiPError.busy }
      var tokens = job.tokens
      if loaded.cache(id).length == 0, let kind = prefixKind(of: job, state) {
        job.prefixKind = kind
        // A question is computed as one, and a token at least, whose logits are wanted.
        let question =
          job.answerTokens > 0 ? state.attention.questionLength(endingAt: tokens.count) : nil
        let (reused, common) =
          savePaths[id] != nil
          ? (0, 0)
          : loaded.prefixes.adopt(
            tokens.dropLast(question ?? 1), of: kind,
            unit: state.attention.reuseUnit(of: tokens.count), into: loaded.cache(id))
        let restored = try restore(
          tokens.dropLast(question ?? 1), of: kind, reused: reused, id, state.attention)
        state = SequenceState(attention: state.attention, length: restored)
        if common > restored, common < tokens.count - (question ?? 1) {
          job.firstDifference = common
        }
        tokens.removeFirst(restored)
      }
      state.begin(tokens, job.goal)
      let count = state.work?.tokens.count ?? 0
      guard count > 0 else {
        throw InfiniteHiPError(.request, "the prompt is empty; give a text to read")
      }
      try job.checkContext(of: state, newTokens: count)
      try checkPlan(of: id, tokens: state.length + count)
      // All of the prompt at once, and the beginning of the answer: who cannot end does not begin.
      try mending(id, state.attention) {
        try loaded.reserve(count + min(job.answerTokens, 512), for: id)
      }
      states[id] = state
      jobs[id] = job
      scheduler.add(id)
      job.yield(.progress(prefilled: 0, of: count))
    } catch {
      // What was taken of a known text goes back.
      if jobs[id] == nil, states[id]?.length == 0 { loaded.clear(id) }
      let known =
        (error as? ComputeError).map { InfiniteHiPError($0) }
        ?? (error as? KVFileError).map { InfiniteHiPError(.lowerTier, $0.message, cause: $0) }
      job.finish(throwing: known ?? error)
    }
  }

  /// Lets a sequence go on from `reused` tokens with what files hold of its text.
  private func restore(
    _ tokens: ArraySlice<TokenID>, of kind: PrefixKind, reused: Int, _ id: SequenceID,
    _ attention: LayerAttention
  ) throws -> Int {
    guard let tier = loaded.tier, let identity = loaded.identity else { return reused }
    let kind = identity.kind(kind)
    let file = try savePaths[id].map { try ContextFile.resume($0, kind: kind) }
    tier.name(id, kind, savingTo: file)
    let length = try tier.restore(tokens, of: id, reused: reused)
    _ = try loaded.repair(id, attention)
    return length
  }

  /// Throws when a context cannot be held by memory and files together.
  private func checkPlan(of id: SequenceID, tokens: Int) throws(InfiniteHiPError) {
    guard let tier = loaded.tier else { return }
    let plan = loaded.plan(
      loaded.cache(id).store.format, tokens: tokens,
      isInFile: savePaths[id] != nil || tier.beginsWithFile(id))
    if let problem = plan.problem {
      throw InfiniteHiPError(.outOfMemory(neededBytes: plan.sketchBytes + plan.pageBytes), problem)
    }
  }

  // MARK: Saved contexts

  /// Saves what a sequence, still empty, reads from now on.
  func save(_ id: SequenceID, to path: String) throws {
    guard loaded.tier != nil else {
      throw InfiniteHiPError(
        .request,
        "keys and values stay in memory here, on a GPU or without tiers: nothing can be saved; compute on the CPU "
          + "(--device cpu)")
    }
    let state = try idleState(id)
    guard
      PrefixKind(
        loaded.cache(id).store.format, state.attention, loaded.model.architecture, length: 0)
        != nil
    else {
      throw InfiniteHiPError(
        .request,
        "what this attention reads cannot be saved: it depends on what was evicted, or on the length of the text"
      )
    }
    savePaths[id] = path
  }

  /// Completes the file of a sequence; bytes that it has.
  func finishSaving(_ id: SequenceID) throws -> SavedContext {
    _ = try idleState(id)
    savePaths[id] = nil
    do {
      guard let tier = loaded.tier else { throw InfiniteHiPError.busy }
      let file = try mending(id, idleState(id).attention) { try tier.finishFile(id) }
      return SavedContext(file)
    } catch let error as ComputeError {
      throw InfiniteHiPError(error)
    }
  }

  /// The saved context at a path; nil where it is not of these tokens and a sequence's kind.
  func savedContext(_ id: SequenceID, _ path: String, _ tokens: [TokenID]) throws -> SavedContext? {
    let state = try idleState(id)
    guard let identity = loaded.identity,
      let prefix = PrefixKind(
        loaded.cache(id).store.format, state.attention, loaded.model.architecture,
        length: tokens.count),
      let file = try? ContextFile.open(path, kind: identity.kind(prefix)),
      file.tokenCount == tokens.count, try file.tokens() == tokens
    else { return nil }
    return SavedContext(file)
  }

  /// Lets a sequence, still empty, begin with a saved context.
  /// - Returns: what users should know of it.
  func restore(_ id: SequenceID, _ file: ContextFile, _ status: SessionStatus) throws -> [String] {
    let state = try idleState(id)
    guard let tier = loaded.tier, let identity = loaded.identity,
      let prefix = PrefixKind(
        loaded.cache(id).store.format, state.attention, loaded.model.architecture,
        length: file.tokenCount)
    else {
      throw InfiniteHiPError(
        .request, "\(file.path): this attention cannot begin with a saved context")
    }
    let kind = identity.kind(prefix)
    guard kind == file.kind else {
      throw InfiniteHiPError(
        .request,
        "\(file.path) belongs to another model, format or attention: \(kind.differences(from: file.kind))"
      )
    }
    do {
      try tier.open(file, as: id, vocabulary: loaded.model.architecture.vocabularySize)
      _ = try loaded.repair(id, state.attention)
    } catch {
      loaded.clear(id)
      throw InfiniteHiPError(error)
    }
    states[id] = SequenceState(attention: state.attention, length: file.tokenCount)
    status.note(tokenCount: file.tokenCount, endsInAnswer: false)
    return tier.takeNotices()
  }

  /// Waits until all that was computed for later texts is in its files.
  /// - Returns: what users should know.
  func settleTiers() -> [String] {
    loaded.tier?.finish()
    return loaded.tier?.takeNotices() ?? []
  }

  /// What another text must have in common with a job's, to begin alike; nil where the job shares nothing.
  private func prefixKind(of job: Job, _ state: SequenceState) -> PrefixKind? {
    guard job.prefixes == .shared else { return nil }
    // Whoever asks for something of every token reads every token.
    switch job.goal {
    case .answer, .store(observed: 0): break
    case .store, .score, .embed: return nil
    }
    return PrefixKind(
      loaded.cache(job.sequence).store.format, state.attention, loaded.model.architecture,
      length: job.tokens.count)
  }

  /// Keeps what a sequence has prefilled of its prompt for the next one that begins alike.
  private func keepPrefix(_ id: SequenceID, _ state: SequenceState) {
    guard let job = jobs[id], let kind = job.prefixKind else { return }
    jobs[id]?.prefixKind = nil
    let unit = state.attention.reuseUnit(of: state.plainLength)
    let count = min(state.plainLength, job.tokens.count) / unit * unit
    loaded.prefixes.keep(job.tokens[..<count], of: kind, in: loaded.cache(id))
  }

  private func observer(of plan: StepPlan) -> ((Int, LayerObservation) -> Void)? {
    guard plan.slices.contains(where: { jobs[$0.sequence]?.observe != nil }) else { return nil }
    return { [states, jobs] number, observation in
      let id = plan.slices[number].sequence
      guard let work = states[id]?.work, let from = work.observedFrom, work.stored >= from else {
        return
      }
      jobs[id]?.observe?(observation)
    }
  }

  /// Tells what a step brought for a sequence.
  private func publish(_ slice: SequenceSlice, _ output: SliceOutput) {
    let id = slice.sequence
    guard let job = jobs[id], var state = states[id] else { return }
    if let failure = output.failure {
      drop(id, throwing: InfiniteHiPError(failure))
      return
    }
    var progress = state.apply(slice, output)
    if !progress.isFinished, job.isFull(state) {
      progress.text += state.cutAnswer()
      progress.isFinished = true
    }
    states[id] = state
    jobs[id]?.note(state)
    do {
      try mending(id, state.attention) {
        try loaded.tier?.advance(id, plainLength: state.plainLength)
      }
    } catch {
      drop(id, throwing: InfiniteHiPError(wrapping: error))
      return
    }
    if state.isPlainDone { keepPrefix(id, state) }
    if let stored = progress.stored, let count = state.work?.tokens.count {
      job.yield(.progress(prefilled: stored, of: count))
    }
    if !progress.negativeLogLikelihoods.isEmpty {
      job.yield(.negativeLogLikelihoods(progress.negativeLogLikelihoods))
    }
    if !progress.alternatives.isEmpty { job.yield(.alternatives(progress.alternatives)) }
    if !progress.hiddenState.isEmpty { job.yield(.hiddenState(progress.hiddenState)) }
    if let token = progress.token { job.yield(.token(token)) }
    if !progress.text.isEmpty { job.yield(.text(progress.text)) }
    if progress.isFinished { finish(id) }
  }

  private func finish(_ id: SequenceID) {
    guard var job = jobs.removeValue(forKey: id), var state = states[id] else { return }
    job.note(state)
    let work = state.work
    let passages = work?.answer == nil ? [] : loaded.readPassages(id, state)
    state.end()
    release(id, state)
    job.finish(state, work, passages, notices: loaded.tier?.takeNotices() ?? [])
  }

  /// Ends a sequence's job, if it has one, with an error; what is stored stays.
  private func drop(_ id: SequenceID, throwing error: any Error) {
    if let state = states[id] { keepPrefix(id, state) }
    guard var job = jobs.removeValue(forKey: id), var state = states[id] else { return }
    job.note(state)
    state.abort()
    release(id, state)
    job.finish(throwing: error)
  }

  private func release(_ id: SequenceID, _ state: SequenceState) {
    scheduler.remove(id)
    states[id] = state
    loaded.cache(id).trim()
  }
}

/// A serial queue as an actor's executor.
private final class EngineExecutor: SerialExecutor {
  private let queue = DispatchQueue(label: "infinitehip.engine")

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { unsafe job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }
}
