// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPEvaluation
import HiPTokenization
import InfiniteHiP

struct PerplexityCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "perplexity",
    abstract: "Negative log-likelihood, in nats, of every next token of a text.",
    discussion: """
      With --policies, a comparison by position, for the first tokens of the text (--lengths, 64K or \
      all by default). "sliding" among the policies reads densely in windows of the trained length, each \
      half new.
      """)

  @Option(help: ArgumentHelp("A JSON list of ids, taken as they are.", valueName: "f"))
  var tokens: String?

  @Flag(help: "Print each token's value.")
  var perToken = false

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  struct Output: Encodable {
    let tokens: Int
    let meanNLL: Double
    let policy: String
    let nll: [Double]?
  }

  mutating func validate() throws {
    if evaluation.policies != nil {
      guard tokens == nil, !perToken else {
        throw ValidationError("--tokens and --per-token go with one policy: --attention")
      }
    } else {
      guard (evaluation.file == nil) != (tokens == nil) else {
        throw ValidationError("give one of --file and --tokens")
      }
    }
  }

  func run() async throws {
    if evaluation.policies == nil { try await measureOne() } else { try await compare() }
  }

  private func readings() throws -> [Perplexity.Reading] {
    try (evaluation.policies ?? "").split(separator: ",").map { name in
      name == "sliding" ? .sliding : .policy(try AttentionArgument(name: String(name)).choice())
    }
  }

  private func compare() async throws {
    let readings = try readings()
    try evaluation.openFolder()
    let model = try await options.loadModel()
    let ids = try model.tokens(of: .text(evaluation.text()), atBeginning: true)
    let lengths = try evaluation.sizes(default: [min(64 << 10, ids.count)])
    var results: [Perplexity] = []
    for length in lengths {
      guard length <= ids.count else {
        throw ValidationError(
          "--lengths has \(length), but the text has \(ids.count) tokens; give a longer one with --file"
        )
      }
      for reading in readings {
        let display = ProgressDisplay("Perplexity, \(reading.name), \(sizeText(length))")
        defer { display.finish() }
        results.append(
          try await Perplexity.measure(model, Array(ids.prefix(length)), reading) {
            display.update(prefilled: $0, of: $1)
          })
      }
    }
    let report = PerplexityReport(results)
    try await evaluation.deliver(
      EvaluationOutput(model, seed: options.generatorSeed, results: results), report.markdown,
      as: "perplexity", figures: [("perplexity", report.figure.svg)])
  }

  private func measureOne() async throws {
    let model = try await options.loadModel()
    let ids: [TokenID]
    if let tokens {
      ids = try TokenFile.ids(
        Data(TextFile.read(tokens).utf8), name: tokens, below: model.tokenizer.vocabularySize)
    } else {
      ids = try model.tokens(of: .text(evaluation.text()), atBeginning: true)
    }
    let session = try await options.makeSession(model)
    let display = ProgressDisplay("Scoring")
    let values = try await session.negativeLogLikelihoods(of: ids) { prefilled, total in
      display.update(prefilled: prefilled, of: total)
    }
    display.finish()
    let mean = values.reduce(0, +) / Double(values.count)
    if evaluation.json {
      try Terminal.printJSON(
        Output(
          tokens: values.count, meanNLL: mean, policy: session.policyName,
          nll: perToken ? values : nil))
      return
    }
    if perToken { for value in values { Terminal.line("\(value)") } }
    Terminal.line(
      "\(values.count) tokens, mean NLL \(decimal(mean, 5)) nats, perplexity "
        + "\(decimal(exp(mean), 4)), attention: \(session.policyName)")
  }
}
