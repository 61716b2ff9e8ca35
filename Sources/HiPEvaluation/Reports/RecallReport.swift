// SPDX-License-Identifier: Apache-2.0

/// Recall of selections as a table and figures.
public struct RecallReport: Sendable {
  private let rows: [RecallResult]

  /// Sums up results.
  public init(_ rows: [RecallResult]) { self.rows = rows }

  /// Shares of the far softmax mass, mean over layers.
  public var markdown: String {
    var lines = [
      "| Tokens | Policy | Keys selected | Mass held | Best possible | Of the best | Best blocks found |",
      "|---|---|---|---|---|---|---|",
    ]
    for row in rows {
      let ratio = row.bestShare > 0 ? decimal(row.massShare / row.bestShare, 3) : "–"
      lines.append(
        "| \(sizeText(row.length)) | \(row.policy) | \(decimal(row.keys, 0)) | "
          + "\(decimal(row.massShare, 4)) | \(decimal(row.bestShare, 4)) | \(ratio) | "
          + "\(percent(row.topBlocks)) |")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// Share of the best possible by layer, a figure per length.
  public var figures: [String: Figure] {
    var figures: [String: Figure] = [:]
    for length in Set(rows.map(\.length)) {
      let here = rows.filter { $0.length == length }
      let count = here.map(\.layers.count).max() ?? 0
      figures["recall-\(sizeText(length))"] = .lines(
        Figure.LineChart(
          title: "Far mass held, of the best possible, by layer (\(sizeText(length)) tokens)",
          places: (0..<count).map(String.init),
          series: here.map { row in
            Figure.LineChart.Series(
              name: row.policy,
              values: row.layers.map { $0.bestShare > 0 ? $0.massShare / $0.bestShare : nil })
          }, top: 1))
    }
    return figures
  }
}
