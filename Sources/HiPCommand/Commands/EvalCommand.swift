// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPTokenization
import InfiniteHiP

struct EvalCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval", abstract: "Measure a model under an attention policy.",
    subcommands: [PerplexityCommand.self, RecallCommand.self])
}

struct PerplexityCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "perplexity",
    abstract: "Negative log-likelihood, in nats, of every next token of a text.")

  @Option(help: ArgumentHelp("A text; begins with the model's begin token.", valueName: "f"))
  var file: String?

  @Option(help: ArgumentHelp("A JSON list of ids, taken as they are.", valueName: "f"))
  var tokens: String?

  @Flag(help: "Print each token's value.")
  var perToken = false

  @Flag(help: "Print one JSON object.")
  var json = false

  @OptionGroup var options: EngineOptions

  struct Output: Encodable {
    let tokens: Int
    let meanNLL: Double
    let policy: String
    let nll: [Double]?
  }

  mutating func validate() throws {
    guard (file == nil) != (tokens == nil) else {
      throw ValidationError("give one of --file and --tokens")
    }
  }

  func run() async throws {
    let attention = try options.attention.choice()
    let model = try options.loadModel()
    let ids: [TokenID]
    if let file {
      ids = try model.tokens(of: .text(TextFile.read(file)), atBeginning: true)
    } else if let tokens {
      ids = try TokenFile.ids(
        Data(TextFile.read(tokens).utf8), name: tokens, below: model.tokenizer.vocabularySize)
    } else {
      ids = []
    }
    let session = try await model.makeSession(
      attention: attention, contextLimit: options.contextLimit)
    let display = ProgressDisplay("Scoring")
    let values = try await session.negativeLogLikelihoods(of: ids) { read, total in
      display.update(read: read, of: total)
    }
    display.finish()
    let mean = values.reduce(0, +) / Double(values.count)
    if json {
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
