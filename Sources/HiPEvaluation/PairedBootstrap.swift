// SPDX-License-Identifier: Apache-2.0

internal import InfiniteHiP

/// The mean difference of paired values, with the interval that 95 % of resampled pairs fall into.
///
/// Two policies that were asked the same questions, or read the same tokens, differ less by chance than two
/// samples of their own would.
public struct PairedBootstrap: Sendable, Hashable, Encodable {
  /// Mean of the differences.
  public let mean: Double
  /// Ends of the interval of the 2.5th to the 97.5th percentile.
  public let low, high: Double
  /// Number of pairs.
  public let count: Int

  /// Whether the interval holds nothing but differences of one sign.
  public var excludesZero: Bool { low > 0 || high < 0 }

  /// Resamples differences, the same way each time.
  /// - Parameters:
  ///   - differences: first minus second value of each pair.
  ///   - resamples: how often as many pairs are drawn with replacement.
  public init(_ differences: [Double], resamples: Int = 10_000, seed: UInt64 = 0) {
    self.init(groups: differences.map { [$0] }, resamples: resamples, seed: seed)
  }

  /// Resamples groups of differences that are not independent of each other, as those of neighbouring tokens of a text; the
  /// mean is that of all pairs.
  public init(groups: [[Double]], resamples: Int = 10_000, seed: UInt64 = 0) {
    let sums = groups.map { (sum: $0.reduce(0, +), count: $0.count) }
    let all = sums.reduce((sum: 0.0, count: 0)) { ($0.sum + $1.sum, $0.count + $1.count) }
    count = all.count
    guard all.count > 0 else {
      (mean, low, high) = (0, 0, 0)
      return
    }
    mean = all.sum / Double(all.count)
    var generator = SeededGenerator(seed: seed)
    var means = (0..<max(1, resamples)).map { _ in
      var (sum, count) = (0.0, 0)
      for _ in sums.indices {
        let group = sums[Int.random(in: 0..<sums.count, using: &generator)]
        sum += group.sum
        count += group.count
      }
      return count > 0 ? sum / Double(count) : 0
    }
    means.sort()
    func percentile(_ share: Double) -> Double {
      means[Int((Double(means.count - 1) * share).rounded())]
    }
    low = percentile(0.025)
    high = percentile(0.975)
  }
}

/// How the answers of one policy to the same questions differ from those of another.
public struct PolicyDifference: Sendable, Encodable {
  /// The task.
  public let task: String
  /// Tokens of prompt and answer together.
  public let length: Int
  /// The policies: the first one's scores minus the second one's.
  public let first, second: String
  /// The difference.
  public let difference: PairedBootstrap

  /// Pairs each answer of `first` with the one of `second` to the same question, by task and length; those that only one
  /// has are left out.
  public static func all(
    _ answers: [AnswerRecord], of first: String, to second: String
  ) -> [PolicyDifference] {
    struct Cell: Hashable {
      let task: String
      let length: Int
    }
    struct Key: Hashable {
      let cell: Cell
      let text: String
      let context, question: Int
    }
    func key(_ answer: AnswerRecord) -> Key {
      Key(
        cell: Cell(task: answer.kind ?? answer.task, length: answer.length), text: answer.text,
        context: answer.context, question: answer.question)
    }
    let others = Dictionary(
      answers.filter { $0.policy == second }.map { (key($0), $0.score) }
    ) { first, _ in first }
    var order: [Cell] = []
    var differences: [Cell: [Double]] = [:]
    for answer in answers where answer.policy == first {
      let key = key(answer)
      guard let other = others[key] else { continue }
      if differences[key.cell] == nil { order.append(key.cell) }
      differences[key.cell, default: []].append(answer.score - other)
    }
    return order.map { cell in
      PolicyDifference(
        task: cell.task, length: cell.length, first: first, second: second,
        difference: PairedBootstrap(differences[cell] ?? []))
    }
  }
}
