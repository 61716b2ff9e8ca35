// SPDX-License-Identifier: Apache-2.0

/// Texts that hold facts of several RULER tasks, so that a long text is read for more than one question.
///
/// Facts, haystacks, questions, answer prefixes and scoring are those of the tasks themselves. Look-alikes are more
/// than there: several keys stand in each text.
public enum SharedText: String, Sendable, Hashable, CaseIterable {
  /// Repeated sentences with four keys of `niah_single_1` and a chain of `vt`.
  case noise = "shared_noise"
  /// Prose with two keys of `niah_single_2` and four of `niah_multikey_1`.
  case prose = "shared_prose"

  /// The tasks of its facts, one by one.
  private var contents: [RulerTask] {
    switch self {
    case .noise: Array(repeating: .niahSingle1, count: 4) + [.variableTracking]
    case .prose: [.niahSingle2, .niahSingle2] + Array(repeating: .niahMultikey1, count: 4)
    }
  }

  /// Questions about one text.
  public var questionCount: Int { contents.count }

  /// The tasks whose facts it holds.
  public var kinds: Set<RulerTask> { Set(contents) }

  private struct Fact {
    let key: String
    let number: String
    let depth: Double
    let kind: RulerTask

    var sentence: String { "One of the special magic numbers for \(key) is: \(number)." }

    var question: EvaluationContext.Question {
      var question = NeedleInAHaystack.question(
        [key], "numbers", isSingle: true, references: [number], depth: depth)
      question.kind = .ruler(kind)
      return question
    }
  }

  private func facts(_ words: inout Words) -> [Fact] {
    var keys: Set<String> = []
    return contents.filter { $0 != .variableTracking }.map { kind in
      var key = words.pair()
      while !keys.insert(key).inserted { key = words.pair() + "-" + words.number(digits: 4) }
      return Fact(
        key: key, number: words.number(digits: 7),
        depth: Double.random(in: 0...1, using: &words.generator), kind: kind)
    }
  }

  func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let facts = facts(&words)
    let introduction = NeedleInAHaystack.introduction("numbers", isSingle: true)
    switch self {
    case .noise:
      let demonstration = VariableTracking.demonstration(&words)
      let chains = VariableTracking.chains(
        contents.count { $0 == .variableTracking }, &words)
      var hidden = facts.map { (depth: $0.depth, line: $0.sentence) }
      for chain in chains {
        for (place, line) in zip(chain.places, chain.lines) { hidden.append((place, line)) }
      }
      // From the last one on, so that those before stay where they are.
      hidden.sort { $0.depth > $1.depth }
      let questions =
        facts.map(\.question)
        + chains.map { chain in
          var question = chain.question
          question.kind = .ruler(.variableTracking)
          return question
        }
      return try request.largest(guess: request.length / 16) { count in
        var lines = [String](repeating: RulerTask.noise, count: count)
        for (depth, line) in hidden {
          lines.insert(line, at: min(count, Int(depth * Double(count + 1))))
        }
        return EvaluationContext(
          text: demonstration + introduction + VariableTracking.introduction
            + lines.joined(separator: "\n") + "\n", questions: questions)
      }
    case .prose:
      return try request.largest(guess: request.length / 4) { count in
        let prose = request.prose.text(
          sentences: count,
          needles: facts.map { (place: Int($0.depth * Double(count)), text: $0.sentence) })
        return EvaluationContext(
          text: introduction + prose + "\n", questions: facts.map(\.question))
      }
    }
  }
}
