// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Synchronization

/// Lets so many requests run at once, so many wait in their order, and refuses the rest.
package final class Admission: Sendable {
  private struct State {
    var running = 0
    var waiting: [(id: UUID, continuation: CheckedContinuation<Void, any Error>)] = []
    var isClosed = false
  }

  private let parallel: Int
  private let queue: Int
  private let state = Mutex(State())

  package init(parallel: Int, queue: Int) {
    self.parallel = parallel
    self.queue = queue
  }

  package var running: Int { state.withLock { $0.running } }
  package var waiting: Int { state.withLock { $0.waiting.count } }

  /// Takes a place at once; false where there is none.
  ///
  /// - Throws: `ServerError` when the queue is full, too, or the server is shutting down.
  func tryEnter() throws(ServerError) -> Bool {
    try state.withLock { state throws(ServerError) in
      guard !state.isClosed else { throw .shuttingDown }
      guard state.running < parallel || state.waiting.count < queue else { throw .queueFull }
      guard state.running < parallel else { return false }
      state.running += 1
      return true
    }
  }

  /// Waits for a place.
  package func enter() async throws {
    let id = UUID()
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let result: Result<Void, any Error>? = state.withLock { state in
          if state.isClosed { return .failure(ServerError.shuttingDown) }
          if Task.isCancelled { return .failure(CancellationError()) }
          if state.running < parallel {
            state.running += 1
            return .success(())
          }
          guard state.waiting.count < queue else { return .failure(ServerError.queueFull) }
          state.waiting.append((id, continuation))
          return nil
        }
        if let result { continuation.resume(with: result) }
      }
    } onCancel: {
      let waiting = state.withLock { state in
        state.waiting.firstIndex { $0.id == id }.map { state.waiting.remove(at: $0).continuation }
      }
      waiting?.resume(throwing: CancellationError())
    }
  }

  /// Gives a place back.
  package func leave() {
    let next = state.withLock { state -> CheckedContinuation<Void, any Error>? in
      guard !state.waiting.isEmpty else {
        state.running -= 1
        return nil
      }
      return state.waiting.removeFirst().continuation
    }
    next?.resume()
  }

  /// Refuses all who wait, and all who come.
  package func close() {
    let waiting = state.withLock { state in
      state.isClosed = true
      defer { state.waiting = [] }
      return state.waiting
    }
    for waiter in waiting { waiter.continuation.resume(throwing: ServerError.shuttingDown) }
  }

  var isClosed: Bool { state.withLock { $0.isClosed } }
}
