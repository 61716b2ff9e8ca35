// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModels
internal import HiPTokenization

extension Session {
  /// Serves a job to its end.
  func complete(
    _ work: @escaping @Sendable () throws -> Prompt,
    observe: (@Sendable (LayerObservation) -> Void)? = nil,
    progress: @escaping @Sendable (_ prefilled: Int, _ of: Int) -> Void
  ) async throws -> Findings {
    let events = AsyncThrowingStream<Findings, any Error> { continuation in
      serve(
        work, observe: observe,
        onCancel: { cancel in
          continuation.onTermination = { if case .cancelled = $0 { cancel() } }
        }
      ) { event in
        switch event {
        case .progress(let prefilled, let count): progress(prefilled, count)
        case .negativeLogLikelihoods(let values):
          continuation.yield(Findings(negativeLogLikelihoods: values))
        case .alternatives(let rows): continuation.yield(Findings(alternatives: rows))
        case .hiddenState(let sum): continuation.yield(Findings(hiddenState: sum))
        case .text, .token: break
        case .finished: continuation.finish()
        case .failed(let error): continuation.finish(throwing: error)
        }
      }
    }
    let findings = try await events.reduce(into: Findings()) { $0.add($1) }
    // A stream that is cancelled ends without an error.
    try Task.checkCancellation()
    return findings
  }

  /// What a job brought besides text.
  struct Findings: Sendable {
    var negativeLogLikelihoods: [Double] = []
    var alternatives: [Candidates] = []
    var hiddenState: [Double] = []

    mutating func add(_ other: Findings) {
      negativeLogLikelihoods += other.negativeLogLikelihoods
      alternatives += other.alternatives
      hiddenState =
        hiddenState.isEmpty
        ? other.hiddenState
        : other.hiddenState.isEmpty
          ? hiddenState : zip(hiddenState, other.hiddenState).map { $0 + $1 }
    }
  }

  /// Hands a job to the engine once its tokens are there.
  func serve(
    _ work: @escaping @Sendable () throws -> Prompt,
    observe: (@Sendable (LayerObservation) -> Void)? = nil,
    onCancel: (@escaping @Sendable () -> Void) -> Void,
    deliver: @escaping @Sendable (EngineEvent) -> Void
  ) {
    guard let ticket = status.makeTicket() else {
      deliver(.failed(InfiniteHiPError.busy))
      return
    }
    onCancel { ticket.cancel() }
    Task { [self] in
      do {
        // What an earlier request was cancelled in may still be under way.
        await model.engine.settle()
        var job = Job(
          sequence, try work(), contextLimit: contextLimit, prefixes: prefixes, ticket: ticket,
          policyName: { [attention, trained = model.architecture.trainedLength] in
            attention.nameOfPolicy(contextLength: $0, trainedLength: trained)
          },
          // The session lives as long as its job, though nobody else keeps it.
          deliver: { [self] event in withExtendedLifetime(self) { deliver(event) } })
        job.observe = observe
        model.engine.post(job)
      } catch {
        ticket.end()
        deliver(.failed(error))
      }
    }
  }
}
