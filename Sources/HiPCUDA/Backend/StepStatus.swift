// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute

/// How the work since the last `submit` stands, for all who enqueue some of it.
final class StepStatus {
  private var error: ComputeError?
  /// Enqueues selections that wait for the attention that goes with them.
  var enqueueWaiting: () -> Void = {}

  /// Whether something has gone wrong.
  var isFailed: Bool { error != nil }

  /// Keeps an error, where there is none yet.
  func take(_ error: ComputeError) { self.error = self.error ?? error }

  /// The error, which is forgotten.
  func taken() -> ComputeError? {
    defer { error = nil }
    return error
  }

  /// Enqueues what waits: its lists are about to be looked at, or what it reads is about to change.
  func settle() { enqueueWaiting() }
}
