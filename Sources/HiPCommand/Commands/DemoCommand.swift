// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPEvaluation
import HiPModels
import HiPTensors
import HiPTokenization
import InfiniteHiP

struct DemoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Hide facts in a novel, prefill it under several policies, ask for each fact.",
    discussion: """
      The novel is prefilled once per policy; every question goes on from that context. --context is \
      the length of the text, 32K by default.
      """)

  @Option(help: ArgumentHelp("How many facts to hide and ask for.", valueName: "n"))
  var questions = 12

  @Option(help: ArgumentHelp("Policies to compare, separated by commas.", valueName: "list"))
  var policies = "auto,dense,streaming"

  @Option(help: ArgumentHelp("The text; War and Peace by default.", valueName: "f"))
  var file: String?

  @Flag(help: "Print each question with the answers.")
  var verbose = false

  @Flag(help: "Print one JSON object.")
  var json = false

  @OptionGroup var options: EngineOptions

  struct Output: Encodable {
    let machine: MachineDescription
    let contextTokens: Int
    let questions: Int
    let policies: [PolicyResult]
  }

  struct PolicyResult: Encodable {
    let policy: String
    let found: Int
    let prefillSeconds: Double
    let decodeTokensPerSecond: Double
    let peakBytes: Int
  }

  mutating func validate() throws {
    guard (1...1000).contains(questions) else {
      throw ValidationError("--questions is \(questions); give 1 to 1000")
    }
  }

  /// Room for a question, its frame and the answer.
  private static let questionRoom = 128

  func run() async throws {
    let choices = try policies.split(separator: ",").map {
      try AttentionArgument(name: String($0)).choice()
    }
    guard !choices.isEmpty else { throw ValidationError("--policies names no policy") }
    let length = options.context?.count ?? 32 << 10
    guard length >= 512 + 64 * questions else {
      throw ValidationError(
        "a text of \(length) tokens has no room for \(questions) facts; raise --context to at "
          + "least \(512 + 64 * questions)")
    }
    let model = try await options.loadModel()
    guard let template = model.chatTemplate else {
      throw FileError(path: model.path, problem: "has no chat template, which the demo needs")
    }
    let path = try file ?? BundledFile.novel.path()
    let facts = HiddenFact.make(questions, seed: options.generatorSeed)
    let haystack = Haystack(
      novel: try TextFile.read(path), facts: facts, tokenCount: length - Self.questionRoom,
      tokenizer: model.tokenizer)
    if !json {
      Terminal.line(
        """
        \(questions) facts hidden in \(sizeText(length)) tokens of \
        \(URL(filePath: path).lastPathComponent); the model was trained on \
        \(sizeText(model.architecture.trainedLength)).

        policy            found  prefill  tokens/s  decode tokens/s   memory
        """)
    }
    var results: [PolicyResult] = []
    for choice in choices {
      let result = try await measure(choice, model, haystack, facts, template)
      results.append(result)
      if !json { printRow(result, length) }
    }
    if json {
      try Terminal.printJSON(
        Output(
          machine: MachineDescription(device: try await model.deviceName()), contextTokens: length,
          questions: questions, policies: results))
    } else {
      let trained = model.architecture.trainedLength
      Terminal.line("\n" + lesson(results, length: length, trained: trained))
    }
  }

  private func measure(
    _ choice: AttentionChoice, _ model: LanguageModel, _ haystack: Haystack, _ facts: [HiddenFact],
    _ template: ChatTemplate
  ) async throws -> PolicyResult {
    MachineMemory.resetPeak()
    let limit = (options.context?.count ?? 32 << 10) + 4096
    let session = try await model.makeSession(attention: choice, contextLimit: limit)
    let read = try await session.answer(
      GenerationRequest(
        .pieces(template.frame.opening + [.text(haystack.text + "\n\n")]), maximumTokens: 0),
      progress: "Prefill with \(choice.name)")
    var found = 0
    var written = 0
    var seconds = 0.0
    for (index, fact) in facts.enumerated() {
      let fork = try await session.fork()
      let reply = try await fork.answer(
        GenerationRequest(
          .pieces([.text(fact.question)] + template.frame.closing),
          sampling: options.sampling(model.description.sampling),
          maximumTokens: min(options.maxTokens, 64)),
        progress: "Asking")
      if fact.isTold(by: reply.text) { found += 1 }
      // The first token falls out of the prefill.
      written += max(0, reply.completion.completionTokens - 1)
      seconds += reply.completion.decodeSeconds
      if verbose {
        let mark = fact.isTold(by: reply.text) ? "found" : "lost "
        Terminal.note("  \(index + 1). \(mark)  \(fact.question)\n            \(reply.text)\n")
      }
    }
    return PolicyResult(
      policy: choice.name, found: found, prefillSeconds: read.completion.prefillSeconds,
      decodeTokensPerSecond: seconds > 0 ? Double(written) / seconds : 0,
      peakBytes: MachineMemory.peakByteCount)
  }

  private func printRow(_ result: PolicyResult, _ length: Int) {
    let name = result.policy.padding(toLength: 16, withPad: " ", startingAt: 0)
    Terminal.line(
      name + pad("\(result.found) of \(questions)", 9)
        + pad(decimal(result.prefillSeconds, 1) + " s", 8)
        + pad(decimal(Double(length) / max(result.prefillSeconds, 1e-9), 0), 11)
        + pad(decimal(result.decodeTokensPerSecond, 0), 17)
        + pad(byteText(result.peakBytes), 9))
  }

  /// What the numbers show, in one line each.
  private func lesson(_ results: [PolicyResult], length: Int, trained: Int) -> String {
    guard let best = results.max(by: { $0.found < $1.found }) else { return "" }
    let times = Double(length) / Double(trained)
    guard times > 1 else {
      return "The text fits the trained length: all of it can be attended to exactly."
    }
    let others = results.filter { $0.policy != best.policy }
      .map { "\($0.policy) \($0.found)" }.joined(separator: ", ")
    return
      "At \(decimal(times, 0)) times the trained length, \(best.policy) finds \(best.found) of "
      + "\(questions) facts" + (others.isEmpty ? "." : "; \(others).")
  }
}
