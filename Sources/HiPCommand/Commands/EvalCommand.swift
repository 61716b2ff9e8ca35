// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

struct EvalCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval", abstract: "Measure a model under attention policies.",
    discussion: """
      Nothing is downloaded. Results go to the folder --out; all but perplexity and recall keep every \
      answer there, and a run that was stopped goes on from them. Scores come with 95 % Wilson \
      intervals, differences between policies with paired bootstrap ones. Answers are greedy.
      """,
    subcommands: [
      NeedleCommand.self, RulerCommand.self, KeyHaystackCommand.self, KeyValueCommand.self,
      PasskeyCommand.self, RepeatedRequestsCommand.self, LabelledLinesCommand.self,
      GraphWalkCommand.self, HopsCommand.self, TurnsCommand.self, ContinuationCommand.self,
      ChaptersCommand.self, PerplexityCommand.self, RecallCommand.self, RetentionCommand.self,
      SuiteCommand.self,
    ])
}
