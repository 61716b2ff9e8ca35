// SPDX-License-Identifier: Apache-2.0

/// A conversation about facts all over one text, asked for in another order than they stand in: what one answer attended
/// to is no help with the next.
///
/// The facts are those of `infinitehip demo`, six to a text. SCBench (arXiv 2412.10319) asks several turns about one
/// context likewise; text and questions are ours.
enum TurnTask {
  private static let count = 6

  static func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let facts = HiddenFact.make(count, seed: words.generator.next())
    let order = facts.indices.shuffled(using: &words.generator)
    func depth(_ index: Int) -> Double { (Double(index) + 0.5) / Double(count) }
    return try request.largest(guess: request.length / 4) { sentences in
      let needles = facts.enumerated().map { index, fact in
        (place: Int(depth(index) * Double(sentences)), text: fact.sentence)
      }
      return EvaluationContext(
        text: request.prose.text(sentences: sentences, needles: needles) + "\n",
        questions: order.enumerated().map { turn, index in
          EvaluationContext.Question(
            text: facts[index].question, answerPrefix: "", references: [facts[index].answer],
            scoring: .word, maximumTokens: 48, depth: depth(index), follows: turn > 0)
        })
    }
  }
}
