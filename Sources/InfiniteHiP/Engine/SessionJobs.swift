// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPModels
internal import HiPTokenization

extension Session {
  /// Serves a job to its end; the likelihoods that it brings.
  func complete(
    _ work: @escaping @Sendable () throws -> Prompt,
    observe: (@Sendable (LayerObservation) -> Void)? = nil,
    progress: @escaping @Sendable (_ prefilled: Int, _ of: Int) -> Void
  ) async throws -> [Double] {
    let events = AsyncThrowingStream<[Double], any Error> { continuation in
      serve(
        work, observe: observe,
        onCancel: { cancel in
          continuation.onTermination = { if case .cancelled = $0 { cancel() } }
        }
      ) { event in
        switch event {
        case .progress(let prefilled, let count): progress(prefilled, count)
        case .negativeLogLikelihoods(let values): continuation.yield(values)
        case .text: break
        case .finished: continuation.finish()
        case .failed(let error): continuation.finish(throwing: error)
        }
      }
    }
    let values = try await events.reduce(into: []) { $0 += $1 }
    // A stream that is cancelled ends without an error.
    try Task.checkCancellation()
    return values
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
          sequence, try work(), contextLimit: contextLimit, ticket: ticket,
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
