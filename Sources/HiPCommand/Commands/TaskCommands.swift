// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPAttention
import HiPEvaluation
import HiPModels
import InfiniteHiP
import Synchronization

struct NeedleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "needle",
    abstract: "Numbers at even depths of a novel, each asked for on its own.",
    discussion: """
      A text is read once per policy and length; every question goes on from there. By default 40 \
      questions at 16K tokens.
      """)
  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    try await TaskRun(evaluation, options, samples: 40, lengths: [16 << 10]).run([.needle])
  }
}

struct KeyValueCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kv", abstract: "One value of a long JSON object of UUIDs (InfiniteBench).",
    discussion: "Four questions share an object. By default 8 questions at 16K tokens.")
  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    try await TaskRun(evaluation, options, samples: 8, lengths: [16 << 10]).run([.keyValue])
  }
}

struct PasskeyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "passkey", abstract: "Five digits between repeated sentences (InfiniteBench).",
    discussion: "Every question has a text of its own. By default 5 questions at 16K tokens.")
  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    try await TaskRun(evaluation, options, samples: 5, lengths: [16 << 10]).run([.passkey])
  }
}

struct RulerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ruler", abstract: "The 11 RULER tasks that need no download.",
    discussion: """
      RULER's templates, answer prefixes, lengths and scoring; words and prose are other ones. Where \
      a text holds several keys, up to four questions share it. By default 4 questions per task at \
      16K tokens. The 11-task mean must not be compared with RULER's 13-task one.
      """)

  @Option(
    help: ArgumentHelp(
      "Tasks, separated by commas: \(RulerTask.allCases.map(\.rawValue).joined(separator: ", ")).",
      valueName: "list"))
  var tasks: String?

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    let chosen = try tasks.map { names in
      try names.split(separator: ",").map { name in
        guard let task = RulerTask(rawValue: String(name)) else {
          throw ValidationError(
            "--tasks has \"\(name)\"; known are \(RulerTask.allCases.map(\.rawValue).joined(separator: ", "))"
          )
        }
        return task
      }
    }
    try await TaskRun(evaluation, options, samples: 4, lengths: [16 << 10])
      .run((chosen ?? RulerTask.allCases).map(EvaluationTask.ruler))
  }
}

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

  func run(_ tasks: [EvaluationTask]) async throws {
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
    let runner = TaskRunner(
      model, prose: Prose(try evaluation.text()), seed: options.generatorSeed)
    let records = try RecordFile(folder: evaluation.out)
    var answers: [AnswerRecord] = []
    var controls: [AnswerRecord] = []
    for task in tasks {
      var best = 0.0
      for length in lengths {
        for choice in choices {
          let new = try await ask(runner, task, choice, length, samples, records)
          answers += new
          best = max(best, TaskResult(new)?.score ?? 0)
        }
      }
      if best <= Self.suspiciousScore, let dense = AttentionChoice.named("dense") {
        controls += try await ask(
          runner, task, dense, min(4096, model.architecture.trainedLength), max(8, samples), records
        )
      }
    }
    let report = TaskReport(answers, controls: controls)
    let name = "\(Self.name(of: tasks))"
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

  private func ask(
    _ runner: TaskRunner, _ task: EvaluationTask, _ choice: AttentionChoice, _ length: Int,
    _ samples: Int, _ records: RecordFile
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
