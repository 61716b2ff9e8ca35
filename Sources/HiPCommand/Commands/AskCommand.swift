// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPEvaluation
import HiPTokenization
import InfiniteHiP

struct AskCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ask", abstract: "Answer a question about texts of any length.",
    discussion: """
      Example:  infinitehip ask --file book.txt "Where does Clara Kendall live?"
      What is read of a text is kept (--kv-dir): the next question about it is answered at once.
      """)

  @Option(name: .long, help: ArgumentHelp("A text to read; - is standard input.", valueName: "f"))
  var file: [String] = []

  @Option(help: ArgumentHelp("A context that `index` has saved, to ask about.", valueName: "f"))
  var contextFile: String?

  @Flag(help: "Send the text as the whole prompt, without a chat template.")
  var raw = false

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "Text that ends the answer; \\n and the like stand for what they do.", valueName: "text"))
  var stop: [String] = []

  @Flag(help: "Print one JSON object.")
  var json = false

  @Argument(help: "The question, or with --raw the end of the prompt.")
  var question: String = ""

  @OptionGroup var options: EngineOptions

  struct Output: Encodable {
    let answer: String
    let promptTokens: Int
    let completionTokens: Int
    let cachedTokens: Int
    let finishReason: String
    let policy: String
    let prefillSeconds: Double
    let decodeSeconds: Double
    let peakBytes: Int
    /// From the start of the process to the first token.
    let firstTokenSeconds: Double?
    let notices: [String]
    let tiers: TierOutput?
  }

  mutating func validate() throws {
    guard file.filter({ $0 == "-" }).count <= 1 else {
      throw ValidationError("standard input can be read once only")
    }
    guard !file.isEmpty || !question.isEmpty else {
      throw ValidationError("give a question, a --file, or both")
    }
    guard contextFile == nil || (file.isEmpty && !raw) else {
      throw ValidationError("--context-file takes a question only, without --file and --raw")
    }
  }

  func run() async throws {
    var parts = try file.map { try TextFile.read($0) }
    if !question.isEmpty { parts.append(question) }
    let text = parts.joined(separator: "\n\n")
    let model = try await options.loadModel()
    let session: Session
    let prompt: GenerationRequest.Prompt
    var notices: [String] = []
    if let contextFile {
      (session, notices) = try await options.base.openContext(contextFile, model)
      prompt = .pieces([.text(question)] + (model.chatTemplate?.frame.closing ?? []))
    } else {
      session = try await options.makeSession(model)
      prompt = raw ? .raw(text) : .message(ChatMessage(role: .user, content: text))
    }
    let request = GenerationRequest(
      prompt, sampling: options.sampling(model.description.sampling),
      maximumTokens: options.maxTokens, stop: stop.map(Self.unescaped))
    var firstText: Double?
    let answer = try await session.answer(request, progress: "Prefill") { text in
      firstText = firstText ?? ProcessClock.seconds
      if !json { Terminal.write(text) }
    }
    let end = answer.completion
    notices += end.notices
    let note = Task { [kv = options.kv] in
      try await Task.sleep(for: .seconds(1))
      Terminal.note("\n[writing what was read to \(kv.folder), for the next question]\n")
    }
    notices += await model.settleTiers()
    note.cancel()
    guard json else {
      Terminal.write("\n")
      for notice in notices { Terminal.note("[\(notice)]\n") }
      Terminal.note(summary(end))
      return
    }
    try Terminal.printJSON(
      Output(
        answer: answer.text, promptTokens: end.promptTokens,
        completionTokens: end.completionTokens, cachedTokens: end.cachedTokens,
        finishReason: end.reason.rawValue, policy: end.policy,
        prefillSeconds: end.prefillSeconds, decodeSeconds: end.decodeSeconds,
        peakBytes: MachineMemory.peakByteCount, firstTokenSeconds: firstText,
        notices: notices, tiers: try await model.tierStatistics().map { TierOutput($0) }))
  }

  /// A stop text with \\n, \\t, \\r, \\\\ and \\" for what they stand for elsewhere.
  private static func unescaped(_ text: String) -> String {
    let escapes: [Character: Character] = ["n": "\n", "t": "\t", "r": "\r", "\\": "\\", "\"": "\""]
    var result = ""
    var rest = Substring(text)
    while let character = rest.popFirst() {
      if character == "\\", let next = rest.first, let meant = escapes[next] {
        result.append(meant)
        rest.removeFirst()
      } else {
        result.append(character)
      }
    }
    return result
  }

  private func summary(_ end: Completion) -> String {
    var text =
      "[\(sizeText(end.promptTokens)) tokens, \(sizeText(end.promptTokens - end.cachedTokens)) of them "
      + "prefilled in \(decimal(end.prefillSeconds, 1)) s, "
      + "\(end.completionTokens) decoded in \(decimal(end.decodeSeconds, 1)) s, "
      + "attention: \(end.policy), \(byteText(MachineMemory.peakByteCount))]\n"
    if end.reason == .length {
      text += "[cut off after \(end.completionTokens) tokens: --max-tokens]\n"
    }
    if end.reason == .context { text += "[cut off: the context is full, see --context]\n" }
    return text
  }
}
