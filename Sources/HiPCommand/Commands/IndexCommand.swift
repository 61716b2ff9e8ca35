// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPEvaluation
import HiPTokenization
import InfiniteHiP

struct IndexCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "index",
    abstract: "Read texts once and save the context, to ask about it at once.",
    discussion: """
      Example:  infinitehip index book.txt --save book.hipkv
                infinitehip ask --context-file book.hipkv "Who is Clara Kendall?"
      When it is stopped, by Ctrl-C or anything else, the same command goes on from there.
      """)

  @Argument(help: ArgumentHelp("Texts to read; - is standard input.", valueName: "file"))
  var files: [String]

  @Option(help: ArgumentHelp("The file to save to.", valueName: "path"))
  var save: String

  @Flag(help: "Read the text as it is, outside of a user's turn.")
  var raw = false

  @Flag(help: "Print one JSON object.")
  var json = false

  @OptionGroup var options: EngineOptions

  struct Output: Encodable {
    let path: String
    let tokens: Int
    let readBefore: Int
    let bytes: Int
    let seconds: Double
    let peakBytes: Int
    let tiers: TierOutput?
  }

  mutating func validate() throws {
    guard !save.isEmpty else { throw ValidationError("--save is empty; give a path") }
    guard files.filter({ $0 == "-" }).count <= 1 else {
      throw ValidationError("standard input can be read once only")
    }
  }

  func run() async throws {
    let text = try files.map { try TextFile.read($0) }.joined(separator: "\n\n") + "\n\n"
    let model = try await options.loadModel()
    let session = try await options.makeSession(model)
    let opening = raw ? [] : model.chatTemplate?.frame.opening ?? []
    try await session.save(to: save)
    let end = try await session.answer(
      GenerationRequest(.pieces(opening + [.text(text)]), maximumTokens: 0), progress: "Prefill"
    ).completion
    let saved = try await session.finishSaving()
    for notice in end.notices { Terminal.note("[\(notice)]\n") }
    let output = Output(
      path: save, tokens: saved.tokenCount, readBefore: end.cachedTokens, bytes: saved.byteCount,
      seconds: end.prefillSeconds, peakBytes: MachineMemory.peakByteCount,
      tiers: try await model.tierStatistics().map { TierOutput($0) })
    guard !json else {
      try Terminal.printJSON(output)
      return
    }
    let before = end.cachedTokens > 0 ? ", \(sizeText(end.cachedTokens)) of them earlier" : ""
    Terminal.line(
      "\(save): \(sizeText(saved.tokenCount)) tokens\(before), \(byteText(saved.byteCount)), "
        + "in \(decimal(end.prefillSeconds, 1)) s. Ask with --context-file \(save).")
  }
}
