// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPEvaluation
import InfiniteHiP

struct NeedleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "needle",
    abstract: "Numbers at even depths of a novel, each asked for on its own.",
    discussion: """
      A text is read once per policy and length; every question goes on from there. By default 40 \
      questions at 16K tokens. With --question every question has a text of its own, and stands before \
      it, in its middle or behind it, by default 8 times each; nothing else tells what is asked.
      """)

  @Option(
    help: ArgumentHelp(
      "Places of the question, separated by commas: first, middle, last.", valueName: "list"))
  var question: String?

  @Option(
    help: ArgumentHelp(
      "With --question: keys in a text, of which one is asked for.", valueName: "n"))
  var keys = 1

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  mutating func validate() throws {
    _ = try places()
    guard (1...64).contains(keys) else { throw ValidationError("--keys is \(keys); give 1 to 64") }
    guard keys == 1 || question != nil else { throw ValidationError("--keys goes with --question") }
  }

  private func places() throws -> [PlacedQuestion.Place]? {
    try question.map { names in
      var places: [PlacedQuestion.Place] = []
      for name in names.split(separator: ",") {
        guard let place = PlacedQuestion.Place(rawValue: String(name)) else {
          throw ValidationError("--question has \"\(name)\"; give first, middle or last")
        }
        if !places.contains(place) { places.append(place) }
      }
      guard !places.isEmpty else { throw ValidationError("--question names no place") }
      return places
    }
  }

  func run() async throws {
    if let places = try places() {
      try await TaskRun(evaluation, options, samples: 8, lengths: [16 << 10])
        .run(places.map { .placed(PlacedQuestion($0, keys: keys)) }, named: "question")
    } else {
      try await TaskRun(evaluation, options, samples: 40, lengths: [16 << 10]).run([.needle])
    }
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
