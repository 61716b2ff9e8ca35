// SPDX-License-Identifier: Apache-2.0

/// Keys and values among nothing but keys and values: the needle tasks of RULER v2 (openreview.net/forum?id=ZU9tRffRSA;
/// github.com/NVIDIA-NeMo/Skills, `ruler2`), with their four knobs.
///
/// Sentences and templates are RULER v2's, which writes the beginning of the answer into the user's turn; words are
/// ours. Up to four questions share a text.
public struct KeyHaystack: Sendable, Hashable {
  /// Keys that may be asked for, and values of each key of the text.
  public let keys, values: Int
  /// Keys that one question asks for.
  public let queries: Int
  /// Digits of a value.
  public let digits: Int

  /// Stores the knobs; there are at least as many keys as a question asks for.
  public init(keys: Int = 4, values: Int = 1, queries: Int = 1, digits: Int = 7) {
    self.keys = max(keys, queries)
    self.values = values
    self.queries = queries
    self.digits = digits
  }

  var name: String { "ruler2_k\(keys)_v\(values)_q\(queries)_d\(digits)" }

  private struct Entry {
    let key: String
    let values: [String]

    var sentences: [String] {
      values.map { "One of the special magic numbers for \(key) is: \($0)." }
    }
  }

  func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    var used: Set<String> = []
    func entry(_ words: inout Words, _ used: inout Set<String>) -> Entry {
      var key = words.pair()
      while !used.insert(key).inserted { key = words.pair() + "-" + words.number(digits: 4) }
      return Entry(key: key, values: (0..<values).map { _ in words.number(digits: digits) })
    }
    let asked = (0..<keys).map { _ in entry(&words, &used) }
    let hidden = asked.flatMap(\.sentences).shuffled(using: &words.generator)
    let depths = hidden.map { _ in Double.random(in: 0...1, using: &words.generator) }
    let questions = questions(asked)
    let start = words
    return try request.largest(guess: request.length / 24 / values) { count in
      var (words, used) = (start, used)
      var lines = (0..<count).flatMap { _ in entry(&words, &used).sentences }
      lines.shuffle(using: &words.generator)
      for (sentence, depth) in zip(hidden, depths) {
        lines.insert(sentence, at: min(lines.count, Int(depth * Double(lines.count + 1))))
      }
      return EvaluationContext(
        text: introduction + lines.joined(separator: "\n") + "\n", questions: questions)
    }
  }

  private var isSingle: Bool { queries * values == 1 }

  private var introduction: String {
    isSingle
      ? "A special magic number is hidden within the following text. Make sure to memorize it. I "
        + "will quiz you about the number afterwards.\n"
      : "Some special magic numbers are hidden within the following text. Make sure to memorize "
        + "them. I will quiz you about the numbers afterwards.\n"
  }

  private func questions(_ asked: [Entry]) -> [EvaluationContext.Question] {
    let count = min(EvaluationTask.questionsPerContext, keys / queries)
    return (0..<count).map { number in
      let group = asked[number * queries..<(number + 1) * queries]
      let names = group.map(\.key)
      let query =
        names.count > 1
        ? names.dropLast().joined(separator: ", ") + ", and " + (names.last ?? "") : names[0]
      let references = group.flatMap(\.values)
      return EvaluationContext.Question(
        text: isSingle
          ? "What is the special magic number for \(query) mentioned in the provided text? The "
            + "special magic number for \(query) mentioned in the provided text is"
          : "What are all the special magic numbers for \(query) mentioned in the provided text? "
            + "The special magic numbers for \(query) mentioned in the provided text are",
        answerPrefix: "", references: references, scoring: .wordErrors,
        maximumTokens: 48 + references.count * (digits + 8))
    }
  }
}
