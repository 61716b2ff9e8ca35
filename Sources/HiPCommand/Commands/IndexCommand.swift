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
    let notices: [String]
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
    let prompt = GenerationRequest.Prompt.pieces(opening + [.text(text)])
    if let saved = try await session.savedContext(at: save, of: prompt) {
      try show(
        Output(
          path: save, tokens: saved.tokenCount, readBefore: saved.tokenCount,
          bytes: saved.byteCount, seconds: 0, peakBytes: MachineMemory.peakByteCount, notices: [],
          tiers: nil))
      return
    }
    try await session.save(to: save)
    let end = try await session.answer(
      GenerationRequest(prompt, maximumTokens: 0), progress: "Prefill"
    ).completion
    let saved = try await session.finishSaving()
    if !json { for notice in end.notices { Terminal.note("[\(notice)]\n") } }
    try show(
      Output(
        path: save, tokens: saved.tokenCount, readBefore: end.cachedTokens,
        bytes: saved.byteCount, seconds: end.prefillSeconds,
        peakBytes: MachineMemory.peakByteCount, notices: end.notices,
        tiers: try await model.tierStatistics().map { TierOutput($0) }))
  }

  private func show(_ output: Output) throws {
    guard !json else {
      try Terminal.printJSON(output)
      return
    }
    let before =
      output.readBefore > 0 ? ", \(sizeText(output.readBefore)) of them read before" : ""
    Terminal.line(
      "\(save): \(sizeText(output.tokens)) tokens\(before), \(byteText(output.bytes)), "
        + "in \(decimal(output.seconds, 1)) s. Ask with --context-file \(save).")
  }
}
