// SPDX-License-Identifier: Apache-2.0

/// Where the chapters of a book open.
struct ChapterText {
  /// The first sentence of each chapter.
  let openings: [Substring]

  /// A sentence is cut when it grows longer than this.
  private static let longestSentence = 400
  /// A line that begins a chapter is longer: contents have none.
  private static let shortestLine = 80

  /// Finds lines that are "CHAPTER" and a number, with a paragraph behind them.
  init(_ text: String) {
    var openings: [Substring] = []
    var isHeading = false
    for line in text.split(separator: "\n", omittingEmptySubsequences: true) {
      let words = line.split(separator: " ")
      if words.count <= 3, words.first?.uppercased() == "CHAPTER" {
        isHeading = true
      } else if isHeading {
        isHeading = false
        guard line.count >= Self.shortestLine else { continue }
        openings.append(Self.firstSentence(of: line))
      }
    }
    self.openings = openings
  }

  private static func firstSentence(of line: Substring) -> Substring {
    var last: Character = " "
    for (count, index) in line.indices.enumerated() {
      let character = line[index]
      if character.isWhitespace, count >= 20 && ".?!”\"".contains(last) || count > longestSentence {
        return line[..<index]
      }
      last = character
    }
    return line
  }
}
