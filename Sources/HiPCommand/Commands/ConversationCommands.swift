// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPEvaluation

struct HopsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "hops",
    abstract: "Chains of facts, each found through the answer before, asked one by one.",
    discussion: """
      Four chains of four facts hide in a text of prose; each is a conversation in which a question names \
      nothing but what was answered before. By default 16 questions at 16K tokens.
      """)
  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    try await TaskRun(evaluation, options, samples: 16, lengths: [16 << 10]).run([.hops])
  }
}

struct TurnsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "turns", abstract: "Facts all over one text, asked for in one conversation.",
    discussion: """
      Six facts at even depths of prose, asked for in another order; every answer stays in the \
      conversation. By default 12 questions at 16K tokens.
      """)
  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    try await TaskRun(evaluation, options, samples: 12, lengths: [16 << 10]).run([.turns])
  }
}
