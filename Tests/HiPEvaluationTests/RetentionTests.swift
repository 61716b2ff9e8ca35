// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPCPU
import HiPEvaluation
import InfiniteHiP
import TestSupport
import Testing

@Suite struct RetentionTests {
  /// An answer with what counts here.
  private func answer(
    _ task: RulerTask, _ policy: String, _ length: Int, _ number: Int, score: Double,
    isShared: Bool = false
  ) throws -> AnswerRecord {
    let kind = isShared ? "\"kind\": \"\(task.rawValue)\"," : ""
    let json = """
      {"task": "\(isShared ? "shared_noise" : task.rawValue)", \(kind) "policy": "\(policy)",
       "length": \(length), "seed": 0, "conditions": "", "context": 0, "text": "t",
       "question": \(number), "prompt": "", "references": [], "output": "", "score": \(score),
       "promptTokens": 0, "contextSeconds": 0, "questionSeconds": 0, "outputTokens": 0,
       "decodeSeconds": 0, "peakBytes": 0}
      """
    return try JSONDecoder().decode(AnswerRecord.self, from: Data(json.utf8))
  }

  @Test func plansShareTextsWhereTheyAreLong() {
    let plan = RetentionPlan(factors: [32, 2, 4, 8, 16])
    #expect(plan.factors == [2, 4, 8, 16, 32])
    func names(_ factor: Int, _ tasks: [RulerTask] = RetentionPlan.tasks) -> [String] {
      plan.items(at: factor, of: tasks).map { "\($0.task.name) \($0.samples)" }
    }
    #expect(
      names(4) == ["niah_single_1 24", "niah_single_2 24", "niah_multikey_1 24", "vt 24"])
    #expect(names(8, [.niahSingle2]) == ["niah_single_2 16"])
    // A question of each of two tasks to a text; alone, a task has its own texts.
    #expect(names(16) == ["shared_noise 32", "niah_single_2 16", "niah_multikey_1 16"])
    #expect(names(32, [.niahSingle1, .niahSingle2]) == ["niah_single_1 16", "niah_single_2 16"])
  }

  @Test func retentionIsTheScoreOverTheDenseOneOfTasksWithinAbility() throws {
    var baseline: [AnswerRecord] = []
    var long: [AnswerRecord] = []
    for number in 0..<4 {
      baseline.append(try answer(.niahSingle1, "dense", 100, number, score: 1))
      baseline.append(
        try answer(.niahMultikey1, "dense", 100, number, score: number < 2 ? 1 : 0))
      baseline.append(
        try answer(.variableTracking, "dense", 100, number, score: 0.2))
      long.append(
        try answer(.niahSingle1, "a", 400, number, score: number < 3 ? 1 : 0, isShared: true))
      long.append(
        try answer(.niahMultikey1, "a", 400, number, score: number < 1 ? 1 : 0))
      long.append(
        try answer(.variableTracking, "a", 400, number, score: 1, isShared: true))
      long.append(try answer(.niahSingle1, "b", 400, number, score: 0, isShared: true))
      long.append(try answer(.niahMultikey1, "b", 400, number, score: 0))
    }
    let report = RetentionReport(trainedLength: 100, baseline: baseline, long)
    #expect(report.baseline.map(\.isWithinAbility) == [true, true, false])
    let row = try #require(report.retention.first)
    // (3/4 + 1/4) / 2 over (1 + 1/2) / 2; variable tracking is beyond the model.
    #expect(abs(row.score - 0.5) < 1e-12 && abs(row.retention - 2.0 / 3) < 1e-12)
    #expect(row.factor == 4 && row.samples == 8 && row.tasks.count == 2)
    let wilson = WilsonInterval(successes: 4, count: 8)
    #expect(abs(row.low - wilson.low / 0.75) < 1e-12 && abs(row.high - wilson.high / 0.75) < 1e-12)
    let difference = try #require(report.differences.first)
    #expect(difference.first == "a" && difference.second == "b")
    #expect(difference.task == "niah_single_1" && difference.difference.mean == 0.75)
    #expect(report.figure.svg.contains("4x"))
    let nothing = RetentionReport(
      trainedLength: 100, baseline: try [answer(.niahSingle1, "dense", 100, 0, score: 0)], [])
    #expect(nothing.retention.isEmpty && nothing.markdown.contains("nothing to retain"))
  }

  @Test func tablesFit80Columns() throws {
    var baseline: [AnswerRecord] = []
    var long: [AnswerRecord] = []
    for task in RetentionPlan.tasks {
      for number in 0..<24 {
        baseline.append(try answer(task, "dense", 32768, number, score: 1))
        for policy in ["a/long/path/of/a/policy.json", "infinitehip-3k-flash"] {
          long.append(
            try answer(task, policy, 32 * 32768, number, score: number.isMultiple(of: 2) ? 1 : 0))
        }
      }
    }
    let text = RetentionReport(trainedLength: 32768, baseline: baseline, long).markdown
    #expect(text.contains("| `policy.json` | 32x, 1M | 0.50 |"))
    for line in text.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
  }

  @Test func conversationsGoOnFromTheirAnswers() async throws {
    let folder = URL.temporaryDirectory.appending(path: "eval-\(UUID())").path(
      percentEncoded: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let model = try await LanguageModel.load(DemoModel.path) { try CPUBackend() }
    let prose = Prose(String(repeating: "It was late. He walked on. ", count: 40))
    let runner = TaskRunner(model, prose: prose, seed: 1)
    func run(_ samples: Int) async throws -> [AnswerRecord] {
      try await runner.run(
        .hops, .automatic, length: 1300, samples: samples, records: RecordFile(folder: folder))
    }
    // The second run begins within the second conversation, which is had once more to that point.
    let first = try await run(6)
    let more = try await run(8)
    #expect(more.prefix(6).map(\.decodeSeconds) == first.map(\.decodeSeconds), "asked again")
    #expect(try RecordFile<AnswerRecord>(folder: folder).records.count == 8)
    #expect(more.map(\.question) == Array(0..<8))
    for (answer, next) in zip(more, more.dropFirst()) where next.question % 4 != 0 {
      let number = answer.output.prefix { $0.isNumber }
      #expect(next.prompt.contains("number for \(number) "), "\(next.prompt)")
      #expect(next.promptTokens > answer.promptTokens)
    }
  }
}
