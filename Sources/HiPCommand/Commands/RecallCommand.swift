// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPEvaluation
import HiPTokenization
import InfiniteHiP

struct RecallCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recall", abstract: "Share of the far softmax mass that selections hold.")

  @Option var file: String?
  @Option var policies = "infinitehip,infinitehip-3k"
  @Option var lengths = "32K"
  @Option var samples = 16
  @OptionGroup var options: EngineOptions

  func run() async throws {
    let choices = try policies.split(separator: ",").map {
      try AttentionArgument(name: String($0)).choice()
    }
    let model = try options.loadModel()
    let ids = try model.tokens(
      of: .text(TextFile.read(file ?? BundledFile.novel.path())), atBeginning: true)
    for text in lengths.split(separator: ",") {
      guard let length = TokenSize(argument: String(text)) else { continue }
      let display = ProgressDisplay("Reading")
      var all = ids
      while all.count < length.count { all += ids }
      let results = try await SelectionRecall(of: choices).measure(
        model, reading: Array(all.prefix(length.count)), attention: options.attention.choice(), blocks: samples
      ) { display.update(read: $0, of: $1) }
      display.finish()
      for result in results {
        Terminal.line("\(text) \(result.policy) keys \(decimal(result.keys, 0)) share \(decimal(result.massShare, 4)) best \(decimal(result.bestShare, 4)) ratio \(decimal(result.massShare / result.bestShare, 3)) top \(decimal(result.topBlocks, 3)) | " + result.layers.map { decimal($0.massShare / $0.bestShare, 3) }.joined(separator: " "))
      }
    }
  }
}
