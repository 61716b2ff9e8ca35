// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation

@main
struct InfiniteHiPCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "infinitehip",
    abstract: "Ask a language model about texts far longer than it was trained for.",
    discussion: """
      Without --model, the demo model that comes with the source is used: small, but it finds \
      facts in a novel. GGUF files and Hugging Face folders of Llama, Mistral, Qwen, Gemma, Phi, \
      SmolLM, OLMo, Granite, EXAONE and gpt-oss models work; Docs/Models.md lists them.

      Start with:  infinitehip demo
      """,
    version: "0.1.0",
    subcommands: [
      DemoCommand.self, AskCommand.self, IndexCommand.self, RunCommand.self, ServeCommand.self,
      EvalCommand.self,
      BenchCommand.self, AttentionCommand.self, TokenizeCommand.self, RenderCommand.self,
      InspectCommand.self, PlanCommand.self, CacheCommand.self,
    ])

  static func main() async {
    ProcessClock.begin()
    // A mapped file that becomes shorter: reading what is gone would end the process without a word.
    signal(SIGBUS) { _ in
      let words = "Error: a file became shorter while it was read; put it back and start again\n"
      _ = unsafe words.withCString { unsafe write(2, $0, strlen($0)) }
      _exit(1)
    }
    await main(RawArguments.questionsLast)
  }
}
