// SPDX-License-Identifier: Apache-2.0

/// Scores as a table: a row per task and policy, a column per length.
public struct ScoreTable: Sendable {
  private let results: [TaskResult]
  private let controls: [TaskResult]

  /// A table of `results`; `controls` are dense runs at a short length, of tasks that nobody solved.
  public init(_ results: [TaskResult], controls: [TaskResult] = []) {
    self.results = results
    self.controls = controls
  }

  /// Below this score with dense attention at a short length, a task is beyond the model.
  public static let ability = 0.25

  /// Why the scores of a task say nothing about attention, if so.
  func limit(of task: String) -> String? {
    guard let control = controls.first(where: { $0.task == task }), control.score < Self.ability
    else { return nil }
    return
      "needs a larger model (dense at \(sizeText(control.length)): \(percent(control.score)) of "
      + "\(control.samples))"
  }

  /// The table in Markdown: score in per cent, with the 95 % interval and the number of questions.
  public var markdown: String {
    let lengths = Set(results.map(\.length)).sorted()
    var lines = ["| Task | Policy | " + lengths.map(sizeText).joined(separator: " | ") + " |"]
    lines.append("|---|---|" + lengths.map { _ in "---|" }.joined())
    for task in distinct(results.map(\.task)) {
      if let limit = limit(of: task) {
        lines.append(
          "| \(task) | all | \(limit) |" + String(repeating: " |", count: max(0, lengths.count - 1))
        )
        continue
      }
      for policy in distinct(results.filter { $0.task == task }.map(\.policy)) {
        let cells = lengths.map { length in
          results.first { $0.task == task && $0.policy == policy && $0.length == length }.map(cell)
            ?? ""
        }
        lines.append("| \(task) | \(policy) | " + cells.joined(separator: " | ") + " |")
      }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private func cell(_ result: TaskResult) -> String {
    "\(percent(result.score)) (\(percent(result.low))–\(percent(result.high)), n \(result.samples))"
  }
}

func distinct(_ names: [String]) -> [String] {
  var seen: Set<String> = []
  return names.filter { seen.insert($0).inserted }
}
