// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

struct EvalCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval", abstract: "Measure a model under attention policies.",
    discussion: """
      Nothing is downloaded. Answers are kept in the folder --out, and a run that was stopped goes on \
      from there. Scores come with 95 % Wilson intervals.
      """,
    subcommands: [
      NeedleCommand.self, RulerCommand.self, KeyValueCommand.self, PasskeyCommand.self,
      PerplexityCommand.self, RecallCommand.self,
    ])
}
