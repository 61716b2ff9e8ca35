// SPDX-License-Identifier: Apache-2.0

/// Counts over labelled lines, to which every line matters: like OOLONG-synth with labels given (arXiv 2511.02817).
///
/// The form of a line, the forms of answers and the scoring are OOLONG's: 0.75 to the power of the error for counts. The
/// messages are made of our words, the labels are four, and the beginning of an answer is given, as RULER gives it. As
/// there, most lines are those of few users, and labels are not equally frequent. Five questions share a text.
enum LabelledLines {
  private static let labels = ["question", "complaint", "praise", "request"]
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  private struct Line {
    let month, day: Int
    let user: String
    let message: String
    let label: String

    var text: String {
      let date = "\(months[month]) \(day < 10 ? "0" : "")\(day), 2024"
      return "Date: \(date) || User: \(user) || Instance: \(message) || Label: \(label)"
    }
  }

  private static func line(
    _ users: [String], _ weights: [Double], _ words: inout Words
  ) -> Line {
    // Four lines in five are those of the first fifth of the users.
    let few = max(1, users.count / 5)
    let isFrequent = Int.random(in: 0..<5, using: &words.generator) < 4
    let user = users[
      isFrequent
        ? Int.random(in: 0..<few, using: &words.generator)
        : Int.random(in: few..<users.count, using: &words.generator)]
    var point = Double.random(in: 0..<1, using: &words.generator)
    var label = labels[0]
    for (name, weight) in zip(labels, weights) {
      label = name
      point -= weight
      if point < 0 { break }
    }
    return Line(
      month: Int.random(in: 0..<12, using: &words.generator),
      day: Int.random(in: 1...28, using: &words.generator), user: user,
      message: "The \(words.pick(Words.adjectives)) \(words.pick(Words.nouns)) in the "
        + "\(words.pick(Words.places)).",
      label: label)
  }

  static func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let users = (0..<20).map { _ in words.number(digits: 5) }
    let parts = labels.map { _ in Double.random(in: 0.5...2, using: &words.generator) }
    let sum = parts.reduce(0, +)
    let weights = parts.map { $0 / sum }
    let asked = (
      label: labels.randomElement(using: &words.generator) ?? labels[0],
      pair: Array(labels.shuffled(using: &words.generator).prefix(2)),
      user: users[Int.random(in: 0..<4, using: &words.generator)],
      month: Int.random(in: 0..<12, using: &words.generator)
    )
    let start = words
    return try request.largest(from: 1, guess: request.length / 40) { count in
      var words = start
      let lines = (0..<count).map { _ in line(users, weights, &words) }
      return EvaluationContext(
        text:
          "The following lines contain \(count) messages, one per line. Each line consists of a "
          + "date, a user ID, the message itself and its label, one of: "
          + labels.joined(separator: ", ") + ". You will be asked about all of them together.\n\n"
          + lines.map(\.text).joined(separator: "\n") + "\n\n",
        questions: [
          number(
            "how many data points have the label '\(asked.label)'?",
            lines.count { $0.label == asked.label }),
          number(
            "how many data points are from user \(asked.user)?",
            lines.count { $0.user == asked.user }),
          number(
            "how many data points have a date in \(months[asked.month]) 2024?",
            lines.count { $0.month == asked.month }),
          mostFrequent(lines), comparison(lines, asked.pair),
        ])
    }
  }

  private static func number(_ question: String, _ count: Int) -> EvaluationContext.Question {
    EvaluationContext.Question(
      text: "In the above data, \(question) Give your final answer in the form 'Answer: number'.",
      answerPrefix: " Answer:", references: [String(count)], scoring: .nearNumber,
      maximumTokens: 8)
  }

  private static func mostFrequent(_ lines: [Line]) -> EvaluationContext.Question {
    let counts = labels.map { label in lines.count { $0.label == label } }
    let most = counts.max() ?? 0
    return EvaluationContext.Question(
      text: "In the above data, which of the labels is the most common? Give your final answer in "
        + "the form 'Label: answer' where answer is one of the labels: "
        + labels.joined(separator: ", ") + ".",
      answerPrefix: " Label:",
      references: [labels[counts.firstIndex(of: most) ?? 0]], scoring: .beginning,
      maximumTokens: 8)
  }

  private static func comparison(
    _ lines: [Line], _ pair: [String]
  ) -> EvaluationContext.Question {
    let (first, second) = (
      lines.count { $0.label == pair[0] }, lines.count { $0.label == pair[1] }
    )
    let answer =
      first > second ? "more common" : first < second ? "less common" : "same frequency"
    return EvaluationContext.Question(
      text: "In the above data, is label '\(pair[0])' more common, less common, or the same "
        + "frequency as label '\(pair[1])'? Give your final answer in the form 'Answer: [X]' where "
        + "[X] is 'more common', 'less common', or 'same frequency'.",
      answerPrefix: " Answer:", references: [answer], scoring: .beginning, maximumTokens: 8)
  }
}
