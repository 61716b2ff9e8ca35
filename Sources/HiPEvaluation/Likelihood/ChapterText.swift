// SPDX-License-Identifier: Apache-2.0

/// Where the chapters of a book open.
struct ChapterText {
  /// The first sentence of each chapter.
  let openings: [Substring]

  /// A sentence is cut when it grows longer than this.
  private static let longestSentence = 400
  /// A paragraph that begins a chapter is longer: contents have none.
  private static let shortestParagraph = 80

  /// Finds lines that are "CHAPTER" and a number, with a paragraph behind them, of one line or of several.
  init(_ text: String) {
    var openings: [Substring] = []
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    var isHeading = false
    for (index, line) in lines.enumerated() where line.contains(where: { !$0.isWhitespace }) {
      let words = line.split(separator: " ")
      if words.count <= 3, words.first?.uppercased() == "CHAPTER" {
        isHeading = true
      } else if isHeading {
        isHeading = false
        let end = lines[index...].first { $0.allSatisfy(\.isWhitespace) }?.startIndex
        let paragraph = text[line.startIndex..<(end ?? text.endIndex)]
        guard paragraph.count >= Self.shortestParagraph else { continue }
        openings.append(Self.firstSentence(of: paragraph))
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
