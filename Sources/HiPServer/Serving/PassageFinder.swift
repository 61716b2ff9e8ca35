// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPTokenization
internal import InfiniteHiP

/// Finds the passages that an answer attended to in the texts of its request.
struct PassageFinder {
  let promptTokens: [TokenID]
  let tokenizer: any Tokenizer
  let messages: [String]

  /// The most that are told.
  private static let limit = 8

  /// The passages with their texts and places, the most read first; neighbours are told as one.
  func passages(_ read: [ReadPassage]) -> [AnswerEnd.Passage] {
    var joined: [(tokens: Range<Int>, share: Float)] = []
    for passage in read.sorted(by: { $0.tokens.lowerBound < $1.tokens.lowerBound }) {
      if let last = joined.last, last.tokens.upperBound == passage.tokens.lowerBound {
        joined[joined.count - 1] = (
          last.tokens.lowerBound..<passage.tokens.upperBound, max(last.share, passage.share)
        )
      } else {
        joined.append((passage.tokens, passage.share))
      }
    }
    // What was looked at in passing only would hide the rest.
    let least = (joined.map(\.share).max() ?? 0) / 10
    let read = joined.filter { $0.share >= least }.sorted { $0.share > $1.share }
    return read.prefix(Self.limit).map { passage in
      let tokens = passage.tokens.clamped(to: 0..<promptTokens.count)
      // Tokens may cut characters.
      let text = tokenizer.decode(Array(promptTokens[tokens])).trimmingCharacters(
        in: CharacterSet(charactersIn: "\u{fffd}"))
      return AnswerEnd.Passage(
        text: text, share: passage.share, place: place(of: text, around: tokens))
    }
  }

  private func place(of text: String, around tokens: Range<Int>) -> (Int, Range<Int>)? {
    guard text.contains(where: { !$0.isWhitespace }) else { return nil }
    let order = messages.indices.sorted { messages[$0].utf8.count > messages[$1].utf8.count }
    for index in order {
      let message = messages[index]
      // Texts repeat themselves: the place that is about as far into the text is looked at first.
      let share = Double(tokens.lowerBound) / Double(max(1, promptTokens.count))
      let start = message.utf16.index(
        message.startIndex, offsetBy: Int(max(0, share - 0.02) * Double(message.utf16.count)))
      let range =
        message.range(of: text, options: .literal, range: start..<message.endIndex)
        ?? message.range(of: text, options: .literal)
      guard let range else { continue }
      let lower = message.utf16.distance(from: message.startIndex, to: range.lowerBound)
      return (index, lower..<lower + text.utf16.count)
    }
    return nil
  }
}
