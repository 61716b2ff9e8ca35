// SPDX-License-Identifier: Apache-2.0

/// Likelihoods of written tokens as a table and a figure.
public struct LikelihoodReport: Sendable, Encodable {
  /// What was measured of one task under one policy at one length.
  public struct Row: Sendable, Encodable {
    /// The task and the policy.
    public let task, policy: String
    /// Tokens of the text.
    public let length: Int
    /// Places where something was written, and tokens of that.
    public let places, tokens: Int
    /// Mean over the tokens, in nats.
    public let meanNLL: Double
    /// The policy that it is compared with on the same tokens; nil for that one itself.
    public let reference: String?
    /// How much more likely that one found them, in nats, by stretches of 32 tokens.
    public let difference: PairedBootstrap?
    /// The difference over the mean of that one.
    public let relative: Double?
  }

  /// The rows.
  public let rows: [Row]
  /// Mean by place in what was written, in steps of an eighth of the longest, a list per row.
  public let curves: [[Double]]

  private enum CodingKeys: CodingKey { case rows, curves }

  private static let stretch = 32

  /// Sums up records: each policy is compared with itself selecting anew at every token where that was measured, and
  /// with the first policy otherwise.
  public init(_ records: [LikelihoodRecord]) {
    func values(_ records: [LikelihoodRecord]) -> [Double] { records.flatMap(\.nll) }
    var rows: [Row] = []
    var curves: [[Double]] = []
    for task in distinct(records.map(\.task)) {
      for length in Set(records.filter { $0.task == task }.map(\.length)).sorted() {
        let here = records.filter { $0.task == task && $0.length == length }
        let policies = distinct(here.map(\.policy))
        for policy in policies {
          let ours = here.filter { $0.policy == policy }
          let name =
            policies.contains(policy + ", fresh")
            ? policy + ", fresh" : policy.hasSuffix(", fresh") ? policy : policies[0]
          let others = here.filter { $0.policy == name }
          let own = values(ours)
          let isComparable = name != policy && own.count == values(others).count
          let differences = zip(ours, others).flatMap { ours, others in
            Self.stretches(zip(ours.nll, others.nll).map { $0 - $1 })
          }
          let mean = Self.mean(own)
          let base = Self.mean(values(others))
          rows.append(
            Row(
              task: task, policy: policy, length: length, places: ours.count, tokens: own.count,
              meanNLL: mean, reference: isComparable ? name : nil,
              difference: isComparable ? PairedBootstrap(groups: differences) : nil,
              relative: isComparable && base > 0 ? (mean - base) / base : nil))
          curves.append(Self.curve(ours.map(\.nll)))
        }
      }
    }
    self.rows = rows
    self.curves = curves
  }

  /// Neighbouring tokens are not independent: stretches of them are drawn together.
  private static func stretches(_ values: [Double]) -> [[Double]] {
    stride(from: 0, to: values.count, by: stretch).map { start in
      Array(values[start..<min(values.count, start + stretch)])
    }
  }

  private static func mean(_ values: some Collection<Double>) -> Double {
    values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
  }

  private static func curve(_ places: [[Double]]) -> [Double] {
    let longest = places.map(\.count).max() ?? 0
    return (0..<8).compactMap { part in
      let range = longest * part / 8..<longest * (part + 1) / 8
      let values = places.flatMap {
        $0.indices.contains(range.lowerBound) ? $0[range.clamped(to: 0..<$0.count)] : []
      }
      return values.isEmpty ? nil : mean(values)
    }
  }

  /// The table in Markdown.
  public var markdown: String {
    var lines: [String] = []
    for task in distinct(rows.map(\.task)) {
      lines += ["\(task):", ""]
      lines += ["| Policy | Tokens | Nats | Against | Difference, 95 % |", "|---|---|---|---|---|"]
      for row in rows where row.task == task {
        var cells = ["", ""]
        if let reference = row.reference, let difference = row.difference {
          cells = [
            reference == row.policy + ", fresh" ? "fresh" : "`\(shortName(reference))`",
            "\(decimal((row.relative ?? 0) * 100, 2)) %, "
              + "\(decimal(difference.low, 4)) to \(decimal(difference.high, 4))",
          ]
        }
        lines.append(
          "| `\(shortName(row.policy))` | \(sizeText(row.length)) | \(decimal(row.meanNLL, 4)) | "
            + cells.joined(separator: " | ") + " |")
      }
      lines.append("")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// Nats per token by place in what was written, a figure per task and length.
  public var figures: [String: Figure] {
    var figures: [String: Figure] = [:]
    for task in distinct(rows.map(\.task)) {
      for length in Set(rows.filter { $0.task == task }.map(\.length)) {
        let here = rows.indices.filter { rows[$0].task == task && rows[$0].length == length }
        let top = here.flatMap { curves[$0] }.max() ?? 1
        figures["\(task)-\(sizeText(length))"] = .lines(
          Figure.LineChart(
            title: "\(task): nats per written token (\(sizeText(length)) tokens)",
            places: (0..<8).map { "\($0 + 1)/8" },
            series: here.map { row in
              Figure.LineChart.Series(name: shortName(rows[row].policy), values: curves[row])
            }, top: (top * 1.1).rounded(.up)))
      }
    }
    return figures
  }
}
