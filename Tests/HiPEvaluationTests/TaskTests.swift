// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPCPU
import HiPEvaluation
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

@Suite struct TaskTests {
  static let tasks: [EvaluationTask] =
    [.needle, .keyValue, .passkey] + RulerTask.allCases.map(EvaluationTask.ruler)

  static let prose = Prose(
    String(
      repeating:
        "It was late. The train had left without him! What was he to do now? He walked on. ",
      count: 40))

  static func model() async throws -> LanguageModel {
    try await LanguageModel.load(DemoModel.path) { try CPUBackend() }
  }

  static func request(
    _ model: LanguageModel, length: Int, samples: Int = 4, seed: UInt64 = 3
  ) -> ContextRequest {
    ContextRequest(
      length: length, samples: samples, seed: seed, prose: prose,
      frame: PromptFrame(model.chatTemplate, tokenizer: model.tokenizer))
  }

  @Test(arguments: tasks)
  func contextsFillTheirLengthAndHoldTheirAnswers(_ task: EvaluationTask) async throws {
    let model = try await Self.model()
    let length = 6000
    let context = try task.context(1, Self.request(model, length: length))
    let read = model.tokenizer.encode(context.text, special: .text).count
    for question in context.questions {
      let asked = model.tokenizer.encode(question.text + question.answerPrefix, special: .text)
        .count
      let total = read + asked + question.maximumTokens
      #expect(total <= length, "\(total) tokens")
      // Frequent words grow in steps of a 64th of the length, common words in tens.
      #expect(total >= length * 9 / 10, "\(total) tokens")
      for reference in question.references {
        #expect(context.text.contains(reference), "\(reference) is not in the text")
      }
    }
    #expect(!context.questions.isEmpty)
    let again = try task.context(1, Self.request(model, length: length))
    #expect(again.text == context.text)
    let other = try task.context(2, Self.request(model, length: length))
    if task != .needle { #expect(other.text != context.text) }
  }

  @Test func questionsThatDoNotFitAreRefused() async throws {
    let model = try await Self.model()
    #expect(throws: InfiniteHiPError.self) {
      try EvaluationTask.needle.context(0, Self.request(model, length: 1024, samples: 300))
    }
  }

  @Test func proseWithoutSentencesIsCut() async throws {
    let model = try await Self.model()
    let frame = PromptFrame(model.chatTemplate, tokenizer: model.tokenizer)
    let prose = Prose(String(repeating: "nothing but words and spaces ", count: 4000))
    let context = try EvaluationTask.needle.context(
      0, ContextRequest(length: 4096, samples: 4, seed: 0, prose: prose, frame: frame))
    let count = model.tokenizer.encode(context.text, special: .text).count
    #expect(count > 3400, "\(count) tokens")
    let place = try #require(context.text.range(of: "magic number")?.lowerBound)
    #expect(context.text.distance(from: context.text.startIndex, to: place) > 500)
  }

  @Test func noKeyOfTheNeedleHaystackComesTwice() async throws {
    let model = try await Self.model()
    let context = try EvaluationTask.ruler(.niahMultikey2).context(
      0, Self.request(model, length: 40000))
    let keys = context.text.split(separator: "\n").dropFirst().map { line in
      line.dropFirst("One of the special magic numbers for ".count).prefix { $0 != " " }
    }
    #expect(Set(keys).count == keys.count)
  }

  @Test func scoringFollowsTheRecipes() {
    #expect(Scoring.containsAll.score("It is ABC, then 12.", ["abc", "13"]) == 0.5)
    #expect(Scoring.word.score("\"a-b-c\".", ["a-b-c"]) == 1)
    #expect(Scoring.word.score("a-b-cd", ["a-b-c"]) == 0)
    #expect(Scoring.firstNumber.score("key 01234 or 5", ["01234"]) == 1)
    #expect(Scoring.firstNumber.score("5, no: 01234", ["01234"]) == 0)
    #expect(Scoring.containsAll.score("anything", []) == 0)
  }

  @Test func wilsonIntervalsAreThoseOfTheTables() {
    // All right out of 500 and out of 50.
    #expect(abs(WilsonInterval(successes: 500, count: 500).low - 0.9924) < 1e-4)
    #expect(abs(WilsonInterval(successes: 50, count: 50).low - 0.9287) < 1e-4)
    let half = WilsonInterval(successes: 10, count: 20)
    #expect(abs(half.low - 0.2993) < 1e-4 && abs(half.high - 0.7007) < 1e-4)
    #expect(WilsonInterval(successes: 0, count: 0).high == 1)
  }

  @Test func aStoppedRunGoesOnFromItsAnswers() async throws {
    let folder = URL.temporaryDirectory.appending(path: "eval-\(UUID())").path(
      percentEncoded: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let model = try await Self.model()
    let runner = TaskRunner(model, prose: Self.prose, seed: 5)
    let choice = AttentionChoice.automatic
    func run(_ samples: Int) async throws -> [AnswerRecord] {
      try await runner.run(
        .keyValue, choice, length: 1500, samples: samples, records: RecordFile(folder: folder))
    }
    let first = try await run(2)
    let more = try await run(4)
    #expect(more.count == 4)
    #expect(more.prefix(2).map(\.contextSeconds) == first.map(\.contextSeconds), "asked again")
    let path = folder + "/answers.jsonl"
    // A line that was cut off is left out, and what follows it is kept.
    let text = try String(contentsOfFile: path, encoding: .utf8)
    try (text + "{\"task\":\"kv\",\"pol").write(toFile: path, atomically: true, encoding: .utf8)
    let five = try await run(5)
    #expect(five.count == 5)
    #expect(five.prefix(4).map(\.contextSeconds) == more.map(\.contextSeconds))
    #expect(try RecordFile<AnswerRecord>(folder: folder).records.count == 5)
    // Needles stand elsewhere when there are more of them: nothing is reused.
    let four = try await runner.run(
      .needle, choice, length: 1500, samples: 4, records: RecordFile(folder: folder))
    let two = try await runner.run(
      .needle, choice, length: 1500, samples: 2, records: RecordFile(folder: folder))
    #expect(Set(four.map(\.text)).isDisjoint(with: two.map(\.text)))
    #expect(TaskResult(two)?.samples == 2)
  }
}
