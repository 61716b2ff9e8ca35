// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import HiPAttention
internal import HiPCompute
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
  private var states: [SequenceID: SequenceState] = [:]
  private var jobs: [SequenceID: Job] = [:]
  private var isRunning = false

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
    loaded.cache(id).truncate(to: 0)
    states[id]?.clear()
    status.note(tokenCount: 0, endsInAnswer: false)
  }

  /// Ends what was cancelled, so that the session's status is that of its context.
  func settle() { takeJobs() }

  /// Forgets a sequence.
  func close(_ id: SequenceID) {
    drop(id, throwing: CancellationError())
    states[id] = nil
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
        let outputs = try loaded.run(plan, observe: observer(of: plan))
        for (slice, output) in zip(plan.slices, outputs) { publish(slice, output) }
      } catch {
        for slice in plan.slices { drop(slice.sequence, throwing: InfiniteHiPError(error)) }
      }
      // Whoever wants something of the engine has its turn between two steps.
      await Task.yield()
    }
    isRunning = false
  }

  private func nextPlan() -> StepPlan? {
    takeJobs()
    while let plan = scheduler.next({ states[$0]?.nextSlice(of: $0) }) {
      // A sequence for which there is no room leaves the step; the others go on.
      var isComplete = true
      for slice in plan.slices where jobs[slice.sequence] != nil {
        do {
          try loaded.cache(slice.sequence).reserve(slice.tokens.count)
        } catch {
          drop(slice.sequence, throwing: InfiniteHiPError(error))
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

  private func begin(_ job: Job) {
    let id = job.sequence
    guard !job.ticket.isCancelled, var state = states[id] else {
      job.finish(throwing: CancellationError())
      return
    }
    do {
      guard jobs[id] == nil else { throw InfiniteHiPError.busy }
      state.begin(job.tokens, job.goal)
      let count = state.work?.tokens.count ?? 0
      guard count > 0 else {
        throw InfiniteHiPError(.request, "the prompt is empty; give a text to read")
      }
      try job.checkContext(of: state, newTokens: count)
      // All of the prompt at once, and the beginning of the answer: who cannot end does not begin.
      try loaded.cache(id).reserve(count + min(job.answerTokens, 512))
      states[id] = state
      jobs[id] = job
      scheduler.add(id)
      job.yield(.progress(prefilled: 0, of: count))
    } catch let error as ComputeError {
      job.finish(throwing: InfiniteHiPError(error))
    } catch {
      job.finish(throwing: error)
    }
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
    if let stored = progress.stored, let count = state.work?.tokens.count {
      job.yield(.progress(prefilled: stored, of: count))
    }
    if !progress.negativeLogLikelihoods.isEmpty {
      job.yield(.negativeLogLikelihoods(progress.negativeLogLikelihoods))
    }
    if !progress.text.isEmpty { job.yield(.text(progress.text)) }
    if progress.isFinished { finish(id) }
  }

  private func finish(_ id: SequenceID) {
    guard var job = jobs.removeValue(forKey: id), var state = states[id] else { return }
    job.note(state)
    let work = state.work
    state.end()
    release(id, state)
    job.finish(state, work)
  }

  /// Ends a sequence's job, if it has one, with an error; what is stored stays.
  private func drop(_ id: SequenceID, throwing error: any Error) {
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
