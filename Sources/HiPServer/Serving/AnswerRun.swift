// SPDX-License-Identifier: Apache-2.0

internal import HiPTokenization
internal import InfiniteHiP
internal import Synchronization

/// A request that is being answered: its events, for each choice of an answer.
final class AnswerRun: Sendable {
  /// What happens to which choice.
  let events: AsyncThrowingStream<(choice: Int, event: AnswerEvent), any Error>
  private let continuation:
    AsyncThrowingStream<(choice: Int, event: AnswerEvent), any Error>.Continuation
  private let beginning: AsyncThrowingStream<Never, any Error>
  private let starting: AsyncThrowingStream<Never, any Error>.Continuation
  /// When it was asked for.
  let start = ContinuousClock.now
  private let tasks = Mutex<(list: [Task<Void, Never>], isCancelled: Bool)>(([], false))

  init() {
    (events, continuation) = AsyncThrowingStream.makeStream()
    (beginning, starting) = AsyncThrowingStream.makeStream()
  }

  /// Waits until the prompt is being read, or the request waits in the queue.
  /// - Throws: why it will not be answered.
  func started() async throws { for try await _ in beginning {} }

  /// Does the work on a task, with a tick whenever nothing has happened for some seconds.
  func begin(_ work: @escaping @Sendable (AnswerRun) async throws -> Void) {
    let ticker = Task { [continuation] in
      while (try? await Task.sleep(for: .seconds(4))) != nil {
        continuation.yield((0, .tick))
      }
    }
    let worker = Task { [self] in
      do {
        try await work(self)
        end(nil)
      } catch {
        end(error)
      }
      ticker.cancel()
    }
    let isCancelled = tasks.withLock { tasks in
      tasks.list += [ticker, worker]
      return tasks.isCancelled
    }
    if isCancelled { cancel() }
  }

  /// Says that the prompt is being read, or waits for its turn.
  func noteStart() { starting.finish() }

  func yield(_ choice: Int, _ event: AnswerEvent) { continuation.yield((choice, event)) }

  /// Ends it, for whatever reason.
  func end(_ error: (any Error)?) {
    starting.finish(throwing: error)
    continuation.finish(throwing: error)
  }

  /// Ends it early; what was read stays.
  func cancel(_ error: any Error = CancellationError()) {
    end(error)
    let running = tasks.withLock { tasks in
      tasks.isCancelled = true
      return tasks.list
    }
    for task in running { task.cancel() }
  }
}
