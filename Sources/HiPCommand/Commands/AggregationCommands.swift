// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPEvaluation

struct KeyHaystackCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ruler2", abstract: "Keys among nothing but keys, with RULER v2's knobs.",
    discussion: """
      RULER v2's sentences, templates and scoring: 1 for a value that occurs in the answer, and else what \
      its word error rate leaves. Up to four questions share a text. By default 8 questions at 16K tokens.
      """)

  @Option(help: ArgumentHelp("Keys that may be asked for.", valueName: "n"))
  var keys = 4

  @Option(help: ArgumentHelp("Values of each key.", valueName: "n"))
  var values = 1

  @Option(help: ArgumentHelp("Keys that one question asks for.", valueName: "n"))
  var queries = 1

  @Option(help: ArgumentHelp("Digits of a value.", valueName: "n"))
  var digits = 7

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  mutating func validate() throws {
    for (name, value, most) in [
      ("--keys", keys, 64), ("--values", values, 16), ("--queries", queries, 16),
      ("--digits", digits, 18),
    ] where !(1...most).contains(value) {
      throw ValidationError("\(name) is \(value); give 1 to \(most)")
    }
  }

  func run() async throws {
    let haystack = KeyHaystack(keys: keys, values: values, queries: queries, digits: digits)
    try await TaskRun(evaluation, options, samples: 8, lengths: [16 << 10]).run([.keys(haystack)])
  }
}

struct RepeatedRequestsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mrcr", abstract: "One of 2, 4 or 8 answers to the same request, copied (MRCR).",
    discussion: """
      The score is the likeness to the piece asked for, as Python's difflib has it. The random prefix that \
      MRCR asks for is given as the beginning of the answer; with --strict the model must write it, and scores \
      0 where it does not. Up to four questions share a conversation. By default 4 questions for each number \
      at 16K tokens.
      """)

  @Option(
    help: ArgumentHelp("How often the request occurs, separated by commas.", valueName: "list"))
  var requests = "2,4,8"

  @Flag(help: "The model must write the random prefix itself.")
  var strict = false

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  mutating func validate() throws { _ = try tasks() }

  private func tasks() throws -> [EvaluationTask] {
    var counts: [Int] = []
    for text in requests.split(separator: ",") {
      guard let count = Int(text), (1...20).contains(count) else {
        throw ValidationError("--requests has \"\(text)\"; give numbers from 1 to 20")
      }
      if !counts.contains(count) { counts.append(count) }
    }
    guard !counts.isEmpty else { throw ValidationError("--requests names no number") }
    return counts.map { .requests(RepeatedRequests(count: $0, isStrict: strict)) }
  }

  func run() async throws {
    try await TaskRun(evaluation, options, samples: 4, lengths: [16 << 10])
      .run(try tasks(), named: "mrcr")
  }
}

struct LabelledLinesCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "oolong",
    abstract: "Counts over labelled lines, to which every line matters (OOLONG).",
    discussion: """
      Lines with a date, a user, a message and a label; asked for are counts by label, user and month, the \
      most common label, and which of two is more common. Counts score 0.75 to the power of the error. Five \
      questions share a text. By default 10 questions at 16K tokens.
      """)
  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    try await TaskRun(evaluation, options, samples: 10, lengths: [16 << 10]).run([.labels])
  }
}

struct GraphWalkCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "graphwalks",
    abstract: "Nodes that a walk over a list of edges comes to (GraphWalks).",
    discussion: """
      Breadth-first search one and two edges deep, and parents; the score is the F1 of the set of nodes. Four \
      questions share a graph. By default 8 questions each at 16K tokens.
      """)
  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    try await TaskRun(evaluation, options, samples: 8, lengths: [16 << 10])
      .run(GraphWalk.allCases.map(EvaluationTask.graph), named: "graphwalks")
  }
}
