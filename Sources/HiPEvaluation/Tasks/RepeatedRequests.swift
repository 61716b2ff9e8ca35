// SPDX-License-Identifier: Apache-2.0

/// One of several answers to the same request, copied: like OpenAI's MRCR (huggingface.co/datasets/openai/mrcr; first in
/// arXiv 2409.12640).
///
/// The question and the scoring, a random prefix and the ratio of `difflib`, are MRCR's. The pieces of writing are made of
/// our words, three sentences each, and the conversation stands in one turn of the user. Small models never write the
/// prefix, and would score 0 whatever they attend to: unless `isStrict` it is given, as RULER gives the beginning of an
/// answer. Two different pieces are alike by about a half: scores compare with each other, not with MRCR's.
public struct RepeatedRequests: Sendable, Hashable {
  /// How often the request that is asked about occurs: 2, 4 or 8 there.
  public let count: Int
  /// Whether the model must write the prefix itself, as MRCR has it.
  public let isStrict: Bool

  /// Stores the parts.
  public init(count: Int, isStrict: Bool = false) {
    self.count = count
    self.isStrict = isStrict
  }

  var name: String { "mrcr_\(count)" + (isStrict ? "_strict" : "") }

  private static let forms = [
    "poem", "short story", "letter", "song", "riddle", "speech", "recipe", "blog post",
    "news article", "joke",
  ]
  private static let verbs = [
    "waits beside", "dreams of", "follows", "remembers", "hides behind", "listens to", "carries",
    "runs past", "watches over", "sings about",
  ]

  private struct Request: Hashable {
    let form, topic: String
    var text: String { "Write a \(form) about the \(topic)" }
  }

  private static func piece(_ request: Request, _ words: inout Words) -> String {
    (0..<3).map { _ in
      "The \(words.pick(Words.adjectives)) \(request.topic) \(words.pick(verbs)) the "
        + "\(words.pick(Words.adjectives)) \(words.pick(Words.nouns))."
    }.joined(separator: " ")
  }

  private static func ordinal(_ number: Int) -> String {
    switch number {
    case 1: "1st"
    case 2: "2nd"
    case 3: "3rd"
    default: "\(number)th"
    }
  }

  func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let asked = Request(form: words.pick(Self.forms), topic: words.pick(Words.nouns))
    let pieces = (0..<count).map { _ in Self.piece(asked, &words) }
    let depths = pieces.map { _ in Double.random(in: 0...1, using: &words.generator) }.sorted()
    let numbers = Array(0..<count).shuffled(using: &words.generator)
      .prefix(EvaluationTask.questionsPerContext)
    let questions = numbers.map { number in
      // Letters of both cases and digits in MRCR; letters are enough to be random.
      let prefix = words.letters(97...122, count: 5) + words.letters(65...90, count: 5)
      return EvaluationContext.Question(
        text:
          "Prepend \(prefix) to the \(Self.ordinal(number + 1)) (1 indexed) \(asked.form) "
          + "about the \(asked.topic). Do not include any other text in your response.",
        answerPrefix: isStrict ? "" : prefix, references: [pieces[number]],
        scoring: .sequence(prefix: isStrict ? prefix : ""),
        maximumTokens: 96, depth: depths[number])
    }
    let start = words
    return try request.largest(guess: request.length / 64) { count in
      var words = start
      var rounds: [String] = []
      for _ in 0..<count {
        var other = asked
        // Half of the others share the form or the topic.
        while other == asked {
          let kind = Int.random(in: 0..<4, using: &words.generator)
          other = Request(
            form: kind == 0 ? asked.form : words.pick(Self.forms),
            topic: kind == 1 ? asked.topic : words.pick(Words.nouns))
        }
        rounds.append(Self.round(other, Self.piece(other, &words)))
      }
      for (piece, depth) in zip(pieces, depths).reversed() {
        rounds.insert(
          Self.round(asked, piece), at: min(count, Int(depth * Double(count + 1))))
      }
      return EvaluationContext(
        text: "Here is a conversation between a user and an assistant. Answer the last request.\n\n"
          + rounds.joined() + "\n", questions: Array(questions))
    }
  }

  private static func round(_ request: Request, _ piece: String) -> String {
    "User: \(request.text)\nAssistant: \(piece)\n"
  }
}
