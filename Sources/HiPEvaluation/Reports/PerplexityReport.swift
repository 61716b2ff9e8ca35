// SPDX-License-Identifier: Apache-2.0

/// Perplexities by position as a table and a figure.
public struct PerplexityReport: Sendable {
  private let results: [Perplexity]

  /// Sums up readings of one text.
  public init(_ results: [Perplexity]) { self.results = results }

  private var longest: [Perplexity.Bucket] {
    results.max { $0.tokens < $1.tokens }?.buckets ?? []
  }

  private func places(_ bucket: Perplexity.Bucket) -> String {
    "\(sizeText(bucket.from))–\(sizeText(bucket.to + bucket.to % 2))"
  }

  /// Mean negative log-likelihood in nats, a row per reading, a column per range of positions.
  public var markdown: String {
    let buckets = longest
    var lines = ["| Policy | Tokens | All | " + buckets.map(places).joined(separator: " | ") + " |"]
    lines.append("|---|---|---|" + buckets.map { _ in "---|" }.joined())
    for result in results {
      let cells = buckets.map { column in
        result.buckets.first { $0.from == column.from }.map { decimal($0.meanNLL, 4) } ?? ""
      }
      lines.append(
        "| \(result.policy) | \(result.tokens) | \(decimal(result.meanNLL, 4)) | "
          + cells.joined(separator: " | ") + " |")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// Mean negative log-likelihood against position.
  public var figure: Figure {
    let buckets = longest
    let all = results.flatMap { $0.buckets.map(\.meanNLL) }
    return .lines(
      Figure.LineChart(
        title: "Nats per token by position", places: buckets.map { sizeText($0.to + $0.to % 2) },
        series: results.map { result in
          Figure.LineChart.Series(
            name: result.policy,
            values: buckets.map { column in
              result.buckets.first { $0.from == column.from }?.meanNLL
            })
        }, top: ((all.max() ?? 1) * 1.1).rounded(.up)))
  }
}
