// SPDX-License-Identifier: Apache-2.0

internal import HiPModels

/// How many tokens of prompts a step may take, so that whoever waits for the next step does not wait long.
struct PrefillPace {
  /// Seconds per token, of late; nil: not known yet.
  private var pace: Double?

  /// Seconds that a step of prompts takes at most, where a sequence is alone, and where others wait.
  private static let alone = 0.4
  private static let shared = 0.2

  /// Tokens, a power of two.
  func rows(isShared: Bool) -> Int {
    let most = DecoderModel.largestPrefill
    guard let pace else { return isShared ? most / 4 : most }
    let limit = isShared ? Self.shared : Self.alone
    var rows = 64
    while rows < most, Double(2 * rows) * pace <= limit { rows *= 2 }
    return rows
  }

  /// Learns from a step.
  mutating func note(_ plan: StepPlan, took duration: Duration) {
    let rows = plan.rowCount - plan.decodeRowCount
    // Of few rows most of the time goes to the weights.
    guard rows >= 64 else { return }
    let now = duration / .seconds(1) / Double(rows)
    pace = pace.map { ($0 + now) / 2 } ?? now
  }
}
