// SPDX-License-Identifier: Apache-2.0

/// Retention curves as tables of at most 80 columns and as a figure.
public struct RetentionReport: Sendable, Encodable {
  /// Tokens that the model was trained on.
  public let trainedLength: Int
  /// Scores of dense attention within the trained length.
  public let baseline: [Retention.TaskScore]
  /// What was measured, a row per policy and factor.
  public let retention: [Retention]
  /// How the first policy's scores differ from those of the others on the same questions.
  public let differences: [PolicyDifference]

  /// Sums up answers.
  /// - Parameters:
  ///   - baseline: answers under dense attention within the trained length.
  ///   - answers: those beyond it, by policy.
  public init(trainedLength: Int, baseline: [AnswerRecord], _ answers: [AnswerRecord]) {
    self.trainedLength = trainedLength
    let dense = Retention.TaskScore.all(baseline)
    self.baseline = dense
    let policies = distinct(answers.map(\.policy))
    let lengths = Set(answers.map(\.length)).sorted()
    retention = policies.flatMap { policy in
      lengths.compactMap { length in
        Retention(
          answers.filter { $0.policy == policy && $0.length == length },
          factor: length / trainedLength, baseline: dense)
      }
    }
    let able = Set(dense.filter(\.isWithinAbility).map(\.task))
    let counted = answers.filter { able.contains($0.kind ?? $0.task) }
    differences = policies.dropFirst().flatMap {
      PolicyDifference.all(counted, of: policies[0], to: $0)
    }
  }

  /// Tables in Markdown: retention, scores by task, and differences between policies.
  public var markdown: String {
    var lines = [
      "| Task, dense at \(sizeText(trainedLength)) | Score | Questions | Counts |",
      "|---|---|---|---|",
    ]
    for score in baseline {
      lines.append(
        "| `\(score.task)` | \(decimal(score.score, 2)) | \(score.samples) | "
          + "\(score.isWithinAbility ? "yes" : "no") |")
    }
    guard !retention.isEmpty else {
      lines += [
        "",
        "No task reaches \(decimal(RetentionPlan.ability, 1)) within the trained length: there is "
          + "nothing to retain.",
      ]
      return lines.joined(separator: "\n") + "\n"
    }
    lines += [
      "", "| Policy | Tokens | Retention | 95 % | Score | Questions |", "|---|---|---|---|---|---|",
    ]
    for row in retention {
      lines.append(
        "| `\(shortName(row.policy))` | \(row.factor)x, \(sizeText(row.length)) | \(decimal(row.retention, 2)) | "
          + "\(decimal(row.low, 2)) to \(decimal(row.high, 2)) | \(decimal(row.score, 2)) | "
          + "\(row.samples) |")
    }
    let tasks = distinct(retention.flatMap { $0.tasks.map(\.task) })
    lines += [
      "",
      "| Policy | Tokens | "
        + tasks.map { $0.hasPrefix("niah_") ? String($0.dropFirst(5)) : $0 }.joined(
          separator: " | ")
        + " |", "|---|---|" + tasks.map { _ in "---|" }.joined(),
    ]
    for row in retention {
      let cells = tasks.map { task in
        row.tasks.first { $0.task == task }.map { "\(decimal($0.score, 2)) (\($0.samples))" } ?? ""
      }
      lines.append(
        "| `\(shortName(row.policy))` | \(row.factor)x | " + cells.joined(separator: " | ") + " |")
    }
    return lines.joined(separator: "\n") + "\n" + differenceTable(differences)
  }

  /// Retention against multiples of the trained length, a line per policy.
  public var figure: Figure {
    let factors = Set(retention.map(\.factor)).sorted()
    let best = retention.map(\.retention).max() ?? 1
    return .lines(
      Figure.LineChart(
        title: "Retention: score over dense within \(sizeText(trainedLength)) tokens",
        places: factors.map { "\($0)x" },
        series: distinct(retention.map(\.policy)).map { policy in
          Figure.LineChart.Series(
            name: shortName(policy),
            values: factors.map { factor in
              retention.first { $0.policy == policy && $0.factor == factor }?.retention
            })
        }, top: best > 1.001 ? (best * 4).rounded(.up) / 4 : 1))
  }
}
