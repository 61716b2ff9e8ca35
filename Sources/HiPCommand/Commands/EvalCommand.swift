// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

struct EvalCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval", abstract: "Measure a model under attention policies.",
    discussion: """
      Nothing is downloaded. Results go to the folder --out; needle, ruler, kv and passkey keep every \
      answer there, and a run that was stopped goes on from them. Scores come with 95 % Wilson \
      intervals. Answers are greedy.
      """,
    subcommands: [
      NeedleCommand.self, RulerCommand.self, KeyValueCommand.self, PasskeyCommand.self,
      PerplexityCommand.self, RecallCommand.self,
    ])
}
