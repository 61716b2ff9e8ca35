// SPDX-License-Identifier: Apache-2.0

/// Many facts at even depths of one text, each asked for in a fork of that context.
enum NeedleTask {
  static func context(_ request: ContextRequest, seed: UInt64) throws -> EvaluationContext {
    var words = Words(seed: seed)
    var keys: Set<String> = []
    let facts = (0..<request.samples).map { _ in
      var key = words.pair()
      for _ in 0..<1000 where keys.contains(key) { key = words.pair() }
      keys.insert(key)
      return (key: key, number: words.number(digits: 7))
    }
    func depth(_ index: Int) -> Double { (Double(index) + 0.5) / Double(facts.count) }
    return try request.largest(guess: request.length / 4) { count in
      EvaluationContext(
        text: request.prose.text(
          sentences: count,
          needles: facts.enumerated().map { index, fact in
            (
              place: Int(depth(index) * Double(count)),
              text: "One of the special magic numbers for \(fact.key) is: \(fact.number)."
            )
          }) + "\n",
        questions: facts.enumerated().map { index, fact in
          EvaluationContext.Question(
            text:
              "What is the special magic number for \(fact.key) mentioned in the provided text?",
            answerPrefix:
              " The special magic number for \(fact.key) mentioned in the provided text is",
            references: [fact.number], scoring: .word, maximumTokens: 24, depth: depth(index))
        })
    }
  }
}

/// InfiniteBench `kv_retrieval`: the value of one key among as many pairs of UUIDs as fit.
enum KeyValueTask {
  static func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    // More than can fit: a pair takes over 40 tokens in any vocabulary.
    let pairs = (0..<max(1, request.length / 24)).map { _ in
      (key: words.uuid(), value: words.uuid())
    }
    let places = (0..<EvaluationTask.questionsPerContext).map { index in
      (Double(index) + Double.random(in: 0..<1, using: &words.generator))
        / Double(EvaluationTask.questionsPerContext)
    }
    return try request.largest(from: 1, guess: request.length / 75) { count in
      let count = min(count, pairs.count)
      let lines = pairs.prefix(count).map { "\"\($0.key)\": \"\($0.value)\"" }
      return EvaluationContext(
        text: "Extract the value corresponding to the specified key in the JSON object below.\n\n"
          + "JSON data:\n{" + lines.joined(separator: ", ") + "}\n",
        questions: places.map { place in
          let index = Int(place * Double(count))
          return EvaluationContext.Question(
            text: "Key: \"\(pairs[index].key)\"\n"
              + "The value associated with the specified key is: ",
            answerPrefix: "", references: [pairs[index].value], scoring: .word, maximumTokens: 50,
            depth: place)
        })
    }
  }
}

/// InfiniteBench `passkey`: five digits between repeated sentences.
enum PasskeyTask {
  static func context(
    _ request: ContextRequest, _ words: inout Words, index: Int
  ) throws -> EvaluationContext {
    let key = words.number(digits: 5)
    let depth = (Double(index) + 0.5) / Double(max(1, request.samples))
    return try request.largest(guess: request.length / 8) { count in
      var lines = [String](repeating: RulerTask.noise, count: count)
      lines.insert(
        "The pass key is \(key). Remember it. \(key) is the pass key.",
        at: Int(depth * Double(count)))
      return EvaluationContext(
        text:
          "There is an important info hidden inside a lot of irrelevant text. Find it and memorize "
          + "it. I will quiz you about the important information.\n\n"
          + lines.joined(separator: "\n") + "\n\n",
        questions: [
          EvaluationContext.Question(
            text: "What is the pass key?", answerPrefix: "The pass key is", references: [key],
            scoring: .firstNumber, maximumTokens: 16, depth: depth)
        ])
    }
  }
}
