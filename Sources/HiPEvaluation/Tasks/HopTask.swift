// SPDX-License-Identifier: Apache-2.0

/// Chains of facts in prose, each found only through the one before, asked for one by one in a conversation.
///
/// Whoever asks knows the first key only, and names in each further question what the model has just answered: the answer's
/// own text stands between, and what it attended to is no help with the next fact. Four chains of four facts hide in a
/// text; each is a conversation of its own, and a wrong answer leads astray all that follow. A task of this project, in the
/// sentences of RULER's needles, which small models can look up: nothing published asks this way.
enum HopTask {
  private struct Chain {
    /// A key and numbers, each the special one of what stands before it.
    let links: [String]

    var facts: [String] {
      zip(links, links.dropFirst()).map {
        "One of the special magic numbers for \($0) is: \($1)."
      }
    }

    var questions: [EvaluationContext.Question] {
      links.dropFirst().enumerated().map { index, answer in
        let subject = index == 0 ? links[0] : EvaluationContext.Question.answerBefore
        let wanted = "he special magic number for \(subject) mentioned in the provided text"
        return EvaluationContext.Question(
          text: "What is t\(wanted)?", answerPrefix: " T\(wanted) is", references: [answer],
          scoring: .word, maximumTokens: 24, follows: index > 0)
      }
    }
  }

  private static let chains = 4

  static func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let chains = (0..<chains).map { _ in
      Chain(links: [words.pair()] + (0..<4).map { _ in words.number(digits: 7) })
    }
    let facts = chains.flatMap(\.facts).shuffled(using: &words.generator)
    let depths = facts.map { _ in Double.random(in: 0...1, using: &words.generator) }
    return try request.largest(guess: request.length / 4) { count in
      let needles = zip(facts, depths).map { (place: Int($1 * Double(count)), text: $0) }
      return EvaluationContext(
        text: request.prose.text(sentences: count, needles: needles) + "\n",
        questions: chains.flatMap(\.questions))
    }
  }
}
