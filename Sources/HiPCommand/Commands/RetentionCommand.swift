// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPEvaluation
import HiPModels
import InfiniteHiP

struct RetentionCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "retention",
    abstract: "What is kept, at multiples of the trained length, of the dense score within it.",
    discussion: """
      The mean score of RULER's niah_single_1, niah_single_2, niah_multikey_1 and vt at each factor, over \
      that of dense attention at the trained length. Tasks that score below 0.5 there are beyond the model \
      and left out. Every text is one task's own (four questions share one of niah_multikey_1), but that \
      from --shared-from on one text of repeated sentences serves a question of niah_single_1 and one of \
      vt, where both count. The first policy goes to every factor, the others to --others-to. --samples: \
      questions of each task (24 within the trained length and up to 4x, 16 beyond). Stopped, it goes on \
      from its answers.
      """)

  @Option(
    help: ArgumentHelp("Multiples of the trained length, separated by commas.", valueName: "list"))
  var factors = "2,4,8,16,32"

  @Option(help: ArgumentHelp("The last factor of all policies but the first.", valueName: "n"))
  var othersTo = 8

  @Option(
    help: ArgumentHelp(
      "The factor from which on niah_single_1 and vt share texts.", valueName: "n"))
  var sharedFrom = 16

  @Option(
    help: ArgumentHelp(
      "Questions of each task, dense within the trained length. (default: --samples or 24)",
      valueName: "n"))
  var baselineSamples: Int?

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  mutating func validate() throws {
    guard evaluation.lengths == nil else {
      throw ValidationError("--lengths goes by --factors here: multiples of the trained length")
    }
    _ = try factorList()
    for (name, value) in [
      ("--others-to", othersTo), ("--shared-from", sharedFrom),
      ("--baseline-samples", baselineSamples ?? 1),
    ] {
      guard (1...100_000).contains(value) else {
        throw ValidationError("\(name) is \(value); give 1 to 100000")
      }
    }
  }

  private func factorList() throws -> [Int] {
    var result: [Int] = []
    for text in factors.split(separator: ",") {
      guard let factor = Int(text.trimmingCharacters(in: .whitespaces)),
        (1...4096).contains(factor)
      else {
        throw ValidationError("--factors has \"\(text)\"; give whole numbers from 1 to 4096")
      }
      if !result.contains(factor) { result.append(factor) }
    }
    guard !result.isEmpty else { throw ValidationError("--factors names no factor") }
    return result
  }

  /// What is written besides the tables.
  private struct Output: Encodable {
    let machine: MachineDescription
    let model: String
    let seed: UInt64
    let results: RetentionReport
  }

  func run() async throws {
    let named = options.attention.name
    let choices = try evaluation.choices(
      default: named == AttentionChoice.automatic.name
        ? "infinitehip,infinitehip-3k,streaming" : named)
    guard let dense = AttentionChoice.named("dense") else { preconditionFailure("no preset") }
    let plan = RetentionPlan(
      factors: try factorList(), baselineSamples: baselineSamples ?? evaluation.samples ?? 24,
      samples: evaluation.samples, sharedFrom: sharedFrom)
    try evaluation.openFolder()
    let model = try await options.loadModel()
    let asker = try TaskAsker(model, evaluation, options)
    let trained = model.architecture.trainedLength
    var baseline: [AnswerRecord] = []
    for task in RetentionPlan.tasks {
      baseline += try await asker.ask(
        .ruler(task), dense, length: trained, samples: plan.baselineSamples)
    }
    let scores = Retention.TaskScore.all(baseline)
    let able = RetentionPlan.tasks.filter { task in
      scores.contains { $0.task == task.rawValue && $0.isWithinAbility }
    }
    var answers: [AnswerRecord] = []
    if !able.isEmpty {
      for factor in plan.factors {
        for choice in choices where choice == choices[0] || factor <= othersTo {
          for item in plan.items(at: factor, of: able) {
            answers += try await asker.ask(
              item.task, choice, length: trained * factor, samples: item.samples)
          }
        }
        // What is known by now can be looked at, should the rest take a night.
        let report = RetentionReport(trainedLength: trained, baseline: baseline, answers)
        try evaluation.write(report.markdown, to: "retention.md")
      }
    }
    let report = RetentionReport(trainedLength: trained, baseline: baseline, answers)
    try evaluation.deliver(
      Output(
        machine: MachineDescription(device: try await model.deviceName()),
        model: URL(filePath: model.path).lastPathComponent, seed: options.generatorSeed,
        results: report),
      report.markdown + "\nAnswers, these tables, retention.json and retention.svg are in "
        + "\(evaluation.out)/",
      as: "retention", figures: [("retention", report.figure.svg)])
  }
}
