// SPDX-License-Identifier: Apache-2.0

/// Repeated sentences with the key of RULER's `niah_single_1` and the chain of its `vt`: one text for both.
///
/// Facts, haystack, questions, answer prefixes and scoring are those of the tasks; neither fact looks like the other.
enum SharedNoise {
  /// The tasks of its questions, in order.
  static let tasks: [RulerTask] = [.niahSingle1, .variableTracking]

  static func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let (key, number) = (words.pair(), words.number(digits: 7))
    let depth = Double.random(in: 0...1, using: &words.generator)
    let demonstration = VariableTracking.demonstration(&words)
    let chain = VariableTracking.chain(&words)
    var questions = [
      NeedleInAHaystack.question(
        [key], "numbers", isSingle: true, references: [number], depth: depth),
      chain.question,
    ]
    for (index, task) in tasks.enumerated() { questions[index].kind = .ruler(task) }
    var hidden = zip(chain.places, chain.lines).map { (depth: $0, line: $1) }
    hidden.append((depth, NeedleInAHaystack.needle("numbers", for: key, is: number)))
    // From the last one on, so that those before stay where they are.
    hidden.sort { $0.depth > $1.depth }
    return try request.largest(guess: request.length / 16) { count in
      var lines = [String](repeating: RulerTask.noise, count: count)
      for (depth, line) in hidden {
        lines.insert(line, at: min(count, Int(depth * Double(count + 1))))
      }
      return EvaluationContext(
        text: demonstration + NeedleInAHaystack.introduction("numbers", isSingle: true)
          + VariableTracking.introduction + lines.joined(separator: "\n") + "\n",
        questions: questions)
    }
  }
}
