// SPDX-License-Identifier: Apache-2.0

/// RULER's `vt`: names that are assigned each other in a chain.
enum VariableTracking {
  /// Names that hold one value, each by way of the one before.
  struct Chain {
    let names: [String]
    let value: String
    /// Where its lines stand, in order, from 0 to 1.
    let places: [Double]

    /// The assignments, one a line.
    var lines: [String] {
      names.indices.map { index in
        index == 0 ? "VAR \(names[0]) = \(value)" : "VAR \(names[index]) = VAR \(names[index - 1]) "
      }
    }

    /// What is asked of it.
    var question: EvaluationContext.Question {
      EvaluationContext.Question(
        // RULER's prefix ends in a space, which belongs to the next token.
        text: VariableTracking.question(value), answerPrefix: String(prefix(value).dropLast()),
        references: names, scoring: .containsAll, maximumTokens: 30)
    }
  }

  private static let length = 5

  static let introduction =
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"

  private static func question(_ value: String) -> String {
    "Question: Find all variables that are assigned the value \(value) in the text above."
  }

  private static func prefix(_ value: String) -> String {
    " Answer: According to the chain(s) of variable assignment in the text above, \(length) variables "
      + "are assigned the value \(value), they are: "
  }

  /// Different names.
  private static func names(letters: Int, _ words: inout Words) -> [String] {
    var result: [String] = []
    while result.count < length {
      let name = words.letters(65...90, count: letters)
      if !result.contains(name) { result.append(name) }
    }
    return result
  }

  /// A chain of random names, value and places.
  static func chain(_ words: inout Words) -> Chain {
    let names = names(letters: 5, &words)
    let value = String(Int.random(in: 10000...99998, using: &words.generator))
    let places = (0..<length).map { _ in Double.random(in: 0...1, using: &words.generator) }
    return Chain(names: names, value: value, places: places.sorted())
  }

  /// The worked example that stands before the task.
  static func demonstration(_ words: inout Words) -> String {
    let example = Chain(
      names: names(letters: 3, &words), value: "12345", places: [0.1, 0.3, 0.5, 0.7, 0.9])
    return introduction + text(5, example) + "\n" + question(example.value) + prefix(example.value)
      + example.names.joined(separator: " ") + "\n\n"
  }

  private static func text(_ count: Int, _ chain: Chain) -> String {
    var lines = [String](repeating: RulerTask.noise, count: count)
    for (line, place) in zip(chain.lines, chain.places).reversed() {
      lines.insert(line, at: min(count, Int(place * Double(count + 1))))
    }
    return lines.joined(separator: "\n")
  }

  static func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let demonstration = demonstration(&words)
    let chain = chain(&words)
    return try request.largest(guess: request.length / 16) { count in
      EvaluationContext(
        text: demonstration + introduction + text(count, chain) + "\n", questions: [chain.question])
    }
  }
}
