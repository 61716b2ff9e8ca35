// SPDX-License-Identifier: Apache-2.0

import HiPCPU
import HiPEvaluation
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

@Suite struct LongTaskTests {
  static let tasks: [EvaluationTask] =
    [
      .keys(KeyHaystack()), .keys(KeyHaystack(keys: 4, values: 3, queries: 2, digits: 4)),
      .labels, .hops, .turns, .sharedNoise,
    ] + [2, 4, 8].map { .requests(RepeatedRequests(count: $0)) }
    + GraphWalk.allCases.map(EvaluationTask.graph)
    + PlacedQuestion.Place.allCases.map { .placed(PlacedQuestion($0, keys: 3)) }

  @Test(arguments: tasks)
  func contextsFillTheirLengthAndAreTheSameEachTime(_ task: EvaluationTask) async throws {
    let model = try await TaskTests.model()
    let length = 5000
    let context = try task.context(1, TaskTests.request(model, length: length))
    func count(_ text: String) -> Int { model.tokenizer.encode(text, special: .text).count }
    let read = count(context.text)
    var sum = read
    var longest = 0
    for question in context.questions {
      if !question.follows { sum = read }
      sum += count(question.text) + count(question.answerPrefix) + question.maximumTokens
      longest = max(longest, sum)
    }
    #expect(longest <= length, "\(longest) tokens")
    // What a template puts around turns, and answers that are quoted, are counted as well.
    #expect(longest >= length * 17 / 20, "\(longest) tokens")
    #expect(!context.questions.isEmpty)
    #expect(context.questions.first?.follows == false)
    let again = try task.context(1, TaskTests.request(model, length: length))
    #expect(again.text == context.text)
    #expect(again.questions.map(\.text) == context.questions.map(\.text))
    #expect(again.questions.map(\.references) == context.questions.map(\.references))
    #expect(try task.context(2, TaskTests.request(model, length: length)).text != context.text)
    #expect(
      try task.context(1, TaskTests.request(model, length: length, seed: 4)).text != context.text)
    #expect(throws: InfiniteHiPError.self) {
      try task.context(0, TaskTests.request(model, length: 60))
    }
  }

  /// Where a text occurs, from 0 to 1; nil unless it occurs once.
  private func place(of part: String, in text: String) -> Double? {
    let ranges = text.ranges(of: part)
    guard ranges.count == 1, let first = ranges.first else { return nil }
    return Double(text.distance(from: text.startIndex, to: first.lowerBound)) / Double(text.count)
  }

  @Test(arguments: [
    EvaluationTask.turns, .placed(PlacedQuestion(.first, keys: 3)), .sharedNoise,
    .requests(RepeatedRequests(count: 4)),
  ])
  func answersStandOnceAndWhereTheirDepthSays(_ task: EvaluationTask) async throws {
    let model = try await TaskTests.model()
    let context = try task.context(0, TaskTests.request(model, length: 6000))
    let known = context.questions.filter { $0.depth != nil }
    #expect(!known.isEmpty)
    for question in known {
      for reference in question.references {
        let found = try #require(
          place(of: reference, in: context.text), "\(reference) is not there once")
        #expect(abs(found - (question.depth ?? 0)) < 0.1, "\(reference) at \(found)")
      }
    }
  }

  @Test func keysHaveTheirValuesAndQuestionsTheirKeys() async throws {
    let model = try await TaskTests.model()
    let haystack = KeyHaystack(keys: 4, values: 3, queries: 2, digits: 4)
    let context = try EvaluationTask.keys(haystack).context(
      0, TaskTests.request(model, length: 4000))
    let lines = context.text.split(separator: "\n").dropFirst()
    var values: [Substring: [Substring]] = [:]
    for line in lines {
      let words = line.split(separator: " ")
      #expect(words.count == 10)
      values[words[7], default: []].append(words[9].dropLast())
      #expect(words[9].count == 5)
    }
    #expect(values.values.allSatisfy { $0.count == 3 }, "a key has more or fewer values")
    #expect(context.questions.count == 2)
    for question in context.questions {
      #expect(question.references.count == 6)
      let asked = values.keys.filter { question.text.contains("\($0)") }
      #expect(asked.count == 2)
      #expect(
        Set(asked.flatMap { values[$0] ?? [] }.map(String.init)) == Set(question.references))
    }
  }

  @Test(arguments: [2, 4, 8])
  func theRequestOccursAsOftenAsItIsSaidTo(_ count: Int) async throws {
    let model = try await TaskTests.model()
    let context = try EvaluationTask.requests(RepeatedRequests(count: count, isStrict: true))
      .context(0, TaskTests.request(model, length: 5000))
    let lines = context.text.split(separator: "\n").map(String.init)
    for question in context.questions {
      let words = question.text.split(separator: " ").map(String.init)
      let number = try #require(Int(words[4].prefix { $0.isNumber }))
      let topic = try #require(
        question.text.firstMatch(of: /\(1 indexed\) (.+) about the ([^.]+)\./)?.output)
      let asked = lines.indices.filter {
        lines[$0] == "User: Write a \(topic.1) about the \(topic.2)"
      }
      #expect(asked.count == count)
      #expect(lines[asked[number - 1] + 1] == "Assistant: " + question.references[0])
      #expect(question.scoring == .sequence(prefix: words[1]))
    }
    let others = Set(lines.filter { $0.hasPrefix("User: ") })
    #expect(others.count > 5)
    #expect(context.questions.count == min(count, 4))
  }

  @Test func countsOfLabelledLinesAreThoseOfTheText() async throws {
    let model = try await TaskTests.model()
    let context = try EvaluationTask.labels.context(0, TaskTests.request(model, length: 5000))
    let lines = context.text.split(separator: "\n").filter { $0.hasPrefix("Date: ") }
    #expect(context.text.contains("contain \(lines.count) messages"))
    func count(_ part: String) -> Int { lines.count { $0.contains(part) } }
    for question in context.questions {
      let reference = question.references[0]
      if let label = question.text.firstMatch(of: /have the label '(\w+)'/)?.output.1 {
        #expect(reference == "\(count("Label: \(label)"))")
      } else if let user = question.text.firstMatch(of: /from user (\d+)/)?.output.1 {
        #expect(reference == "\(count("User: \(user) "))")
      } else if let month = question.text.firstMatch(of: /date in (\w+) 2024/)?.output.1 {
        #expect(reference == "\(count("Date: \(month) "))")
      } else if question.text.contains("most common") {
        let most = ["question", "complaint", "praise", "request"].map { count("Label: \($0)") }
          .max()
        #expect(count("Label: \(reference)") == most)
      } else {
        let pair = try #require(
          question.text.firstMatch(of: /label '(\w+)' more.+ label '(\w+)'/)?.output)
        let (first, second) = (count("Label: \(pair.1)"), count("Label: \(pair.2)"))
        #expect(
          reference
            == (first > second
              ? "more common" : first < second ? "less common" : "same frequency"))
      }
    }
    #expect(context.questions.count == 5)
  }

  @Test func walksEndWhereTheEdgesLead() async throws {
    let model = try await TaskTests.model()
    for walk in GraphWalk.allCases {
      let context = try EvaluationTask.graph(walk).context(
        0, TaskTests.request(model, length: 4000))
      let graph = context.text.split(separator: "operate on:").last ?? ""
      let edges = graph.split(separator: "\n").compactMap { line -> (from: String, to: String)? in
        let nodes = line.split(separator: " -> ").map(String.init)
        return nodes.count == 2 ? (from: nodes[0], to: nodes[1]) : nil
      }
      #expect(edges.count > 40)
      for question in context.questions {
        var found: Set<String>
        if let step = question.text.firstMatch(of: /from node (\w+) with depth (\d)/)?.output {
          let start = String(step.1)
          func next(_ nodes: Set<String>) -> Set<String> {
            Set(edges.filter { nodes.contains($0.from) }.map(\.to))
          }
          found = next([start]).subtracting([start])
          if step.2 == "2" { found = next(found).subtracting(found).subtracting([start]) }
        } else {
          let node = try #require(question.text.firstMatch(of: /parents of node (\w+)/)).output.1
          found = Set(edges.filter { $0.to == node && $0.from != node }.map(\.from))
          #expect(!found.isEmpty)
        }
        #expect(Set(question.references) == found)
      }
    }
  }

  @Test func everyHopIsFoundThroughTheAnswerBefore() async throws {
    let model = try await TaskTests.model()
    let context = try EvaluationTask.hops.context(0, TaskTests.request(model, length: 4000))
    #expect(context.questions.count == 16)
    var before = ""
    for question in context.questions {
      if !question.follows {
        // The first key stands in the question, and in one fact.
        let key = try #require(question.text.firstMatch(of: #/number for ([a-z-]+) mentioned/#))
          .output.1
        before = String(key)
      } else {
        #expect(!question.text.contains(before), "the question gives the answer before away")
      }
      #expect(
        context.text.ranges(of: "numbers for \(before) is: \(question.references[0]).").count == 1)
      before = question.references[0]
    }
  }

  @Test(arguments: PlacedQuestion.Place.allCases)
  func questionsStandWhereTheyShall(_ place: PlacedQuestion.Place) async throws {
    let model = try await TaskTests.model()
    let context = try EvaluationTask.placed(PlacedQuestion(place, keys: 2))
      .context(0, TaskTests.request(model, length: 3000))
    let asked = "Question: What is the special magic number for "
    let question = try #require(context.questions.first)
    let all = context.text + question.text
    let at = try #require(self.place(of: asked, in: all), "the question does not stand once")
    switch place {
    case .first: #expect(at == 0)
    case .middle: #expect(at > 0.4 && at < 0.6)
    case .last: #expect(at > 0.95)
    }
    let key = try #require(all.firstMatch(of: /magic number for ([a-z-]+) mentioned/)).output.1
    #expect(!question.answerPrefix.contains(key), "the prefix asks again")
    #expect(context.text.contains("numbers for \(key) is: \(question.references[0])."))
  }

  @Test func aSharedTextHoldsOneFactOfEachTask() async throws {
    let model = try await TaskTests.model()
    let context = try EvaluationTask.sharedNoise.context(0, TaskTests.request(model, length: 5000))
    #expect(context.questions.map { $0.kind?.name } == ["niah_single_1", "vt"])
    #expect(context.text.ranges(of: "One of the special magic numbers for").count == 1)
    let question = try #require(context.questions.last)
    // Each name is assigned the one before it, further down.
    var end = context.text.startIndex
    var before = try #require(question.text.firstMatch(of: /value (\d+)/)).output.1
    for name in question.references {
      let assignment = "VAR \(name) = " + (before.allSatisfy(\.isNumber) ? "" : "VAR ") + before
      let found = try #require(
        context.text[end...].firstRange(of: assignment), "no \(assignment)")
      end = found.upperBound
      before = name[...]
    }
  }
}
