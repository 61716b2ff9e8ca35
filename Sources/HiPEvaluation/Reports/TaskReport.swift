// SPDX-License-Identifier: Apache-2.0

/// Results of tasks as a table and as figures.
public struct TaskReport: Sendable {
  /// Scores per task, policy and length.
  public let results: [TaskResult]
  private let answers: [AnswerRecord]
  private let controls: [TaskResult]

  /// Sums up answers; `controls` are answers of dense attention at a short length, to tasks that
  /// nobody solved.
  public init(_ answers: [AnswerRecord], controls: [AnswerRecord] = []) {
    func results(_ answers: [AnswerRecord]) -> [TaskResult] {
      var order: [[String]] = []
      var groups: [[String]: [AnswerRecord]] = [:]
      for answer in answers {
        let key = [answer.task, answer.policy, "\(answer.length)"]
        if groups[key] == nil { order.append(key) }
        groups[key, default: []].append(answer)
      }
      return order.compactMap { groups[$0].flatMap(TaskResult.init) }
    }
    self.answers = answers
    self.results = results(answers)
    self.controls = results(controls)
  }

  /// The dense runs at a short length.
  public var controlResults: [TaskResult] { controls }

  /// How the first policy's scores differ from those of the others on the same questions.
  public var differences: [PolicyDifference] {
    // Of a baseline at a shorter length there is nothing to compare.
    let longest = results.map(\.length).max()
    let policies = distinct(results.filter { $0.length == longest }.map(\.policy))
    return policies.dropFirst().flatMap { PolicyDifference.all(answers, of: policies[0], to: $0) }
  }

  /// The tables in Markdown: scores, and differences between policies.
  public var markdown: String {
    ScoreTable(results, controls: controls).markdown + differenceTable(differences)
  }

  /// Figures by file name: accuracy against length per task, and a heat map of needles per policy.
  public var figures: [String: Figure] {
    var figures: [String: Figure] = [:]
    let lengths = Set(results.map(\.length)).sorted()
    for task in distinct(results.map(\.task)) {
      let ours = results.filter { $0.task == task }
      figures["accuracy-\(task)"] = .lines(
        Figure.LineChart(
          title: "\(task): score against length", places: lengths.map(sizeText),
          series: distinct(ours.map(\.policy)).map { policy in
            Figure.LineChart.Series(
              name: policy,
              values: lengths.map { length in
                ours.first { $0.policy == policy && $0.length == length }?.score
              })
          }, top: 1))
    }
    for policy in distinct(answers.map(\.policy)) {
      let needles = answers.filter { $0.task == "needle" && $0.policy == policy }
      guard !needles.isEmpty else { continue }
      figures["needle-\(policy)"] = .heatMap(Self.heatMap(needles, lengths, policy))
    }
    return figures
  }

  /// Ten rows of depth, a column per length.
  private static func heatMap(
    _ needles: [AnswerRecord], _ lengths: [Int], _ policy: String
  ) -> Figure.HeatMap {
    let rows = 0..<10
    return Figure.HeatMap(
      title: "Needles found with \(policy), % by depth and length",
      columns: lengths.map(sizeText), rows: rows.map { "\($0 * 10)–\($0 * 10 + 10) %" },
      cells: rows.map { row in
        lengths.map { length in
          let here = needles.filter {
            $0.length == length && Int(($0.depth ?? 0) * 10) == row
          }
          return here.isEmpty ? nil : here.reduce(0) { $0 + $1.score } / Double(here.count)
        }
      })
  }
}
