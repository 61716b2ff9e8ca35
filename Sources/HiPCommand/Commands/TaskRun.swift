// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPAttention
import HiPEvaluation
import HiPModels
import InfiniteHiP
import Synchronization

/// Tasks under policies at lengths, with a table, a JSON file and figures at the end.
struct TaskRun {
  private let evaluation: EvaluationOptions
  private let options: EngineOptions
  private let samples: Int
  private let lengths: [Int]

  init(_ evaluation: EvaluationOptions, _ options: EngineOptions, samples: Int, lengths: [Int]) {
    self.evaluation = evaluation
    self.options = options
    self.samples = evaluation.samples ?? samples
    self.lengths = lengths
  }

  /// Where nobody scores more than this, dense attention at a short length is asked too.
  private static let suspiciousScore = 0.2

  func run(_ tasks: [EvaluationTask], named name: String? = nil) async throws {
    // One policy may be named as everywhere else.
    let named = options.attention.name
    let choices = try evaluation.choices(
      default: named == AttentionChoice.automatic.name
        ? "infinitehip,infinitehip-3k,dense,streaming" : named)
    let lengths = try evaluation.sizes(default: lengths)
    for length in lengths where length < 1024 {
      throw ValidationError("--lengths has \(length); the tasks need 1024 tokens or more")
    }
    try evaluation.openFolder()
    let model = try await options.loadModel()
    let asker = try TaskAsker(model, evaluation, options)
    var answers: [AnswerRecord] = []
    var controls: [AnswerRecord] = []
    for task in tasks {
      var best = 0.0
      for length in lengths {
        for choice in choices {
          let new = try await asker.ask(task, choice, length: length, samples: samples)
          answers += new
          best = max(best, TaskResult(new)?.score ?? 0)
        }
      }
      if best <= Self.suspiciousScore, let dense = AttentionChoice.named("dense") {
        controls += try await asker.ask(
          task, dense, length: min(4096, model.architecture.trainedLength),
          samples: max(8, samples))
      }
    }
    let report = TaskReport(answers, controls: controls)
    let name = name ?? Self.name(of: tasks)
    try await evaluation.deliver(
      EvaluationOutput(model, seed: options.generatorSeed, results: report.results),
      report.markdown + "\nAnswers, this table, \(name).json and figures are in \(evaluation.out)/",
      as: name,
      figures: report.figures.map { ($0.key.replacing("/", with: "-"), $0.value.svg) })
    if !report.controlResults.isEmpty {
      try evaluation.write(Terminal.jsonText(report.controlResults), to: name + "-controls.json")
    }
  }

  private static func name(of tasks: [EvaluationTask]) -> String {
    if case .ruler? = tasks.first { "ruler" } else { tasks.first?.name ?? "tasks" }
  }
}

/// Puts tasks to a model, and shows how far it is.
struct TaskAsker {
  private let runner: TaskRunner
  private let records: RecordFile<AnswerRecord>

  init(
    _ model: LanguageModel, _ evaluation: EvaluationOptions, _ options: EngineOptions
  ) throws {
    runner = TaskRunner(model, prose: Prose(try evaluation.text()), seed: options.generatorSeed)
    records = try RecordFile(folder: evaluation.out)
  }

  func ask(
    _ task: EvaluationTask, _ choice: AttentionChoice, length: Int, samples: Int
  ) async throws -> [AnswerRecord] {
    let title = "\(task.name), \(choice.name), \(sizeText(length))"
    // Every context is a reading of its own.
    let display = Mutex(ProgressDisplay(title))
    let answers = try await runner.run(
      task, choice, length: length, samples: samples, records: records
    ) { progress in
      display.withLock { display in
        if progress.prefilled == 0 {
          display.finish()
          display = ProgressDisplay("\(title), \(progress.done) of \(progress.of)")
        }
        display.update(prefilled: progress.prefilled, of: progress.tokens)
      }
    }
    display.withLock { $0.finish() }
    if let result = TaskResult(answers) {
      Terminal.note("\(title): \(decimal(result.score * 100, 0)) % of \(answers.count)\n")
    }
    return answers
  }
}
