// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPAttention
import HiPEvaluation
import HiPModels
import InfiniteHiP
import Synchronization

struct ContinuationCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "continuation",
    abstract: "Nats per token of a text's own continuation, written token by token.",
    discussion: """
      The model reads all of --lengths but the last --written tokens, and those are then dictated as if it \
      wrote them: what an answer's focus leaves out shows here, and not in `eval perplexity`, which reads. \
      --samples texts begin at even distances (1 by default, of 16K tokens). Differences are paired by token, \
      with bootstrap intervals over stretches of 32.
      """)

  @Option(help: ArgumentHelp("Tokens that are written.", valueName: "n"))
  var written = 1024

  @Flag(
    help: "Measure each policy with a fresh selection at every token, too, and compare with that.")
  var refresh = false

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  mutating func validate() throws {
    guard (2...65536).contains(written) else {
      throw ValidationError("--written is \(written); give 2 to 65536")
    }
  }

  func run() async throws {
    try await LikelihoodRun(evaluation, options, samples: 1, lengths: [16 << 10], refresh: refresh)
      .run(.continuation(tokens: written), named: "continuation")
  }
}

struct ChaptersCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chapters",
    abstract: "Nats per token of the first sentence of chapters, given the book up to each.",
    discussion: """
      A book with lines such as "CHAPTER IV" is read up to --lengths (64K by default); the true first \
      sentences of --samples chapters (20) at even distances are dictated as if the model wrote them. What \
      knows the book finds them likelier. Differences are paired by token.
      """)

  @Flag(
    help: "Measure each policy with a fresh selection at every token, too, and compare with that.")
  var refresh = false

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    try await LikelihoodRun(evaluation, options, samples: 1, lengths: [64 << 10], refresh: refresh)
      .run(.chapters(count: evaluation.samples ?? 20), named: "chapters")
  }
}

/// A likelihood under policies at lengths, with a table, a JSON file and figures at the end.
struct LikelihoodRun {
  private let evaluation: EvaluationOptions
  private let options: EngineOptions
  private let samples: Int
  private let lengths: [Int]
  private let refresh: Bool

  init(
    _ evaluation: EvaluationOptions, _ options: EngineOptions, samples: Int, lengths: [Int],
    refresh: Bool
  ) {
    self.evaluation = evaluation
    self.options = options
    self.samples = evaluation.samples ?? samples
    self.lengths = lengths
    self.refresh = refresh
  }

  func run(_ task: LikelihoodTask, named name: String) async throws {
    let choices = try Self.choices(evaluation, options, refresh: refresh)
    let lengths = try evaluation.sizes(default: lengths)
    try evaluation.openFolder()
    let model = try await options.loadModel()
    let report = LikelihoodReport(try await measure(model, task, choices, lengths))
    try await evaluation.deliver(
      EvaluationOutput(model, seed: options.generatorSeed, results: report.rows),
      report.markdown + "\nValues of every token (likelihoods.jsonl), this table, \(name).json and "
        + "figures are in \(evaluation.out)/",
      as: name, figures: report.figures.map { ($0.key, $0.value.svg) })
  }

  /// The policies, each with its fresh form behind it where that is wanted.
  static func choices(
    _ evaluation: EvaluationOptions, _ options: EngineOptions, refresh: Bool
  ) throws -> [AttentionChoice] {
    let named = options.attention.name
    let choices = try evaluation.choices(
      default: named == AttentionChoice.automatic.name
        ? "infinitehip,infinitehip-3k,streaming" : named)
    return try choices.flatMap { choice in
      [choice] + (refresh ? [try choice.selectingFresh()].compactMap { $0 } : [])
    }
  }

  func measure(
    _ model: LanguageModel, _ task: LikelihoodTask, _ choices: [AttentionChoice], _ lengths: [Int]
  ) async throws -> [LikelihoodRecord] {
    let runner = try LikelihoodRunner(model, text: evaluation.text())
    let records = try RecordFile<LikelihoodRecord>(folder: evaluation.out, name: "likelihoods")
    var all: [LikelihoodRecord] = []
    for length in lengths {
      for choice in choices {
        let display = ProgressDisplay("\(task.name), \(choice.name), \(sizeText(length))")
        defer { display.finish() }
        all += try await runner.run(
          task, choice, length: length, samples: samples, records: records
        ) { display.update(prefilled: $0, of: $1) }
      }
    }
    return all
  }
}
