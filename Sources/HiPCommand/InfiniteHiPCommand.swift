// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

@main
struct InfiniteHiPCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "infinitehip",
    abstract: "Ask a language model about texts far longer than it was trained for.",
    discussion: """
      Without --model, the demo model that comes with the source is used: small, but it finds \
      facts in a novel. Any GGUF file of the llama architecture in F32, F16, BF16, Q8_0, Q4_0, Q4_1, \
      Q4_K, Q5_K or Q6_K works.

      Start with:  infinitehip demo
      """,
    version: "0.1.0",
    subcommands: [
      DemoCommand.self, AskCommand.self, RunCommand.self, EvalCommand.self, BenchCommand.self,
      AttentionCommand.self, TokenizeCommand.self, RenderCommand.self, InspectCommand.self,
    ])
}
