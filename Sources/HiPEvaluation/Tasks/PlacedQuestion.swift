// SPDX-License-Identifier: Apache-2.0

/// A question before the text, in its middle, or behind it.
///
/// All else is the same, so scores compare.
/// RULER's magic numbers in prose. RULER's answer prefix names the key again, and would be a question behind the text;
/// here nothing behind the text does, wherever the question stands. With one key in the text, models can answer that are
/// too small to carry a key through a text; with more, the question must be found as well. Every question has a text of
/// its own.
public struct PlacedQuestion: Sendable, Hashable {
  /// Where the question stands.
  public enum Place: String, Sendable, Hashable, CaseIterable {
    case first, middle, last
  }

  /// Where the question stands.
  public let place: Place
  /// Keys in the text, of which one is asked for.
  public let keys: Int

  /// Stores the parts.
  public init(_ place: Place, keys: Int = 1) {
    self.place = place
    self.keys = keys
  }

  var name: String { "question_\(place.rawValue)" + (keys > 1 ? "_k\(keys)" : "") }

  func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    var used: Set<String> = []
    let facts = (0..<keys).map { _ in
      var key = words.pair()
      while !used.insert(key).inserted { key = words.pair() }
      return (
        key: key, number: words.number(digits: 7),
        depth: Double.random(in: 0...1, using: &words.generator)
      )
    }
    let asked = facts[0]
    let question =
      "Question: What is the special magic number for \(asked.key) mentioned in the provided text?"
    return try request.largest(guess: request.length / 4) { count in
      var needles = facts.map {
        (
          place: Int($0.depth * Double(count)),
          text: "One of the special magic numbers for \($0.key) is: \($0.number)."
        )
      }
      if place == .middle { needles.append((place: count / 2, text: "\n\n" + question + "\n\n")) }
      let text = request.prose.text(sentences: count, needles: needles)
      return EvaluationContext(
        text: (place == .first ? question + "\n\n" : "") + text + "\n\n",
        questions: [
          EvaluationContext.Question(
            text: (place == .last ? question + "\n\n" : "")
              + "Answer the question about the text in one sentence.",
            answerPrefix: " The special magic number is", references: [asked.number],
            scoring: .word, maximumTokens: 24, depth: asked.depth)
        ])
    }
  }
}
