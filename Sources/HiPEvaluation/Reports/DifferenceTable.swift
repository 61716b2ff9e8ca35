// SPDX-License-Identifier: Apache-2.0

/// Differences between the first policy and others as a table in Markdown, with an empty line before it; nothing without
/// any.
func differenceTable(_ differences: [PolicyDifference]) -> String {
  guard let first = differences.first?.first else { return "" }
  var lines = [
    "", "| `\(shortName(first))` minus | Task | Tokens | Difference | 95 % |",
    "|---|---|---|---|---|",
  ]
  for row in differences {
    lines.append(
      "| `\(shortName(row.second))` | `\(row.task)` | \(sizeText(row.length)) | "
        + "\(decimal(row.difference.mean, 2)) | \(decimal(row.difference.low, 2)) to "
        + "\(decimal(row.difference.high, 2)) |")
  }
  return lines.joined(separator: "\n") + "\n"
}
