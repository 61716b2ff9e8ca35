// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPEvaluation
import HiPModels
import InfiniteHiP

struct SuiteCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "suite", abstract: "All tasks for one model, one after the other.",
    discussion: """
      short: 4 questions a task at twice the trained length, and densely within it; some 1.6M tokens for a \
      model trained on 8K, an hour on two cores. long: 12 questions a task, at twice and at 8 times; some \
      17M tokens, a night. Under one policy (--policies names more, and each costs as much again); the \
      continuation is compared with a fresh selection at every token. Stopped, it goes on from its answers.
      """)

  enum Size: String, ExpressibleByArgument, CaseIterable { case short, long }

  @Option(help: ArgumentHelp("short or long.", valueName: "size"))
  var size = Size.short

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  static let tasks: [EvaluationTask] =
    RulerTask.allCases.map(EvaluationTask.ruler)
    + [
      .keys(KeyHaystack()), .keys(KeyHaystack(keys: 4, values: 4)),
      .keys(KeyHaystack(keys: 4, queries: 4, digits: 3)),
    ] + [2, 4, 8].map { .requests(RepeatedRequests(count: $0)) } + [.labels]
    + GraphWalk.allCases.map(EvaluationTask.graph) + [.hops, .turns]
    + PlacedQuestion.Place.allCases.map { .placed(PlacedQuestion($0)) }

  func run() async throws {
    var evaluation = evaluation
    evaluation.policies = evaluation.policies ?? options.attention.name
    let choices = try evaluation.choices(default: "auto")
    try evaluation.openFolder()
    let model = try await options.loadModel()
    let trained = model.architecture.trainedLength
    let lengths = try evaluation.sizes(
      default: (size == .short ? [2] : [2, 8]).map { $0 * trained })
    let samples = evaluation.samples ?? (size == .short ? 4 : 12)
    // First: these say at once where a text is too short.
    let written = LikelihoodRun(evaluation, options, samples: 1, lengths: [], refresh: true)
    let fresh = try LikelihoodRun.choices(evaluation, options, refresh: true)
    var likelihoods = try await written.measure(
      model, .continuation(tokens: 1024), fresh, lengths)
    // Twenty chapters take some 50K tokens of a novel.
    likelihoods += try await written.measure(
      model, .chapters(count: 20), choices, [size == .short ? 64 << 10 : 128 << 10])
    let asker = try TaskAsker(model, evaluation, options)
    var answers: [AnswerRecord] = []
    if let dense = AttentionChoice.named("dense") {
      for task in Self.tasks {
        answers += try await asker.ask(task, dense, length: trained, samples: samples)
      }
    }
    for length in lengths {
      for choice in choices {
        for task in Self.tasks {
          answers += try await asker.ask(task, choice, length: length, samples: samples)
        }
      }
    }
    let (report, likelihood) = (TaskReport(answers), LikelihoodReport(likelihoods))
    try evaluation.deliver(
      Output(
        machine: MachineDescription(device: try await model.deviceName()),
        model: URL(filePath: model.path).lastPathComponent, seed: options.generatorSeed,
        results: report.results, likelihoods: likelihood.rows),
      report.markdown + "\n" + likelihood.markdown
        + "\nAnswers, these tables and suite.json are in "
        + "\(evaluation.out)/", as: "suite")
  }

  private struct Output: Encodable {
    let machine: MachineDescription
    let model: String
    let seed: UInt64
    let results: [TaskResult]
    let likelihoods: [LikelihoodReport.Row]
  }
}
