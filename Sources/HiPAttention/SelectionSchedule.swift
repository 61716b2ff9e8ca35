// SPDX-License-Identifier: Apache-2.0

/// Which stages a decoding step computes anew (arXiv 2502.08910, algorithm 4): the first that is
/// due and all after it, from what the stage before it kept last.
public struct SelectionSchedule: Sendable, Hashable {
  private let intervals: [Int]

  /// The schedule of a policy's refresh intervals.
  public init(_ pruning: HierarchicalPruning) {
    intervals = pruning.stages.map(\.refreshInterval)
  }

  /// The first stage to compute at decoding step `step`, counted from 0 for each sequence;
  /// nil when the last selection stays.
  public func firstDueStage(step: Int) -> Int? {
    intervals.firstIndex { step % $0 == 0 }
  }
}
