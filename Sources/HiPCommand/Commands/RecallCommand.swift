// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPAttention
import HiPEvaluation
import HiPTokenization
import InfiniteHiP

struct RecallCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recall",
    abstract: "How much of the far softmax mass selections hold, per layer.",
    discussion: """
      A text is read under --attention; in its last --samples blocks of 64 queries (16 by default), \
      each policy selects, and what it took is compared with the exact mass of every key and with \
      the best that as many blocks could hold. Policies that select nothing hold nothing.
      """)

  @OptionGroup var evaluation: EvaluationOptions
  @OptionGroup var options: EngineOptions

  func run() async throws {
    let choices = try evaluation.choices(default: "infinitehip,infinitehip-3k,streaming")
    for choice in choices {
      switch choice.policy {
      case .hierarchical, .streaming: break
      case .dense, .stretched, .heavyHitters:
        throw ValidationError(
          "--policies has \"\(choice.name)\", which selects no blocks; recall compares selections")
      }
    }
    let lengths = try evaluation.sizes(default: [32 << 10])
    let blocks = evaluation.samples ?? 16
    let attention = try options.attention.choice()
    try evaluation.openFolder()
    let model = try await options.loadModel()
    let ids = try model.tokens(of: .text(evaluation.text()), atBeginning: true)
    var results: [RecallResult] = []
    for length in lengths {
      guard length <= ids.count else {
        throw ValidationError(
          "--lengths has \(length), but the text has \(ids.count) tokens; give a longer one with --file"
        )
      }
      guard length > 64 * blocks else {
        throw ValidationError(
          "--lengths has \(length), no more than \(blocks) blocks of 64 queries")
      }
      let display = ProgressDisplay("Prefill of \(sizeText(length))")
      defer { display.finish() }
      results += try await SelectionRecall(of: choices).measure(
        model, reading: Array(ids.prefix(length)), attention: attention, blocks: blocks
      ) { display.update(prefilled: $0, of: $1) }
    }
    let report = RecallReport(results)
    try await evaluation.deliver(
      EvaluationOutput(model, seed: options.generatorSeed, results: results), report.markdown,
      as: "recall", figures: report.figures.map { ($0.key, $0.value.svg) })
  }
}
