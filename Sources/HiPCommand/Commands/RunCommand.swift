// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPEvaluation
import HiPTensors
import HiPTokenization
import InfiniteHiP
import Synchronization

struct RunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Chat at the terminal, with texts of any length.",
    discussion: ChatCommand.summary)

  @Argument(
    help: ArgumentHelp(
      "GGUF file or Hugging Face folder; the demo model by default.", valueName: "model"))
  var path: String?

  @Option(
    help: ArgumentHelp("A context that `index` has saved, to talk about.", valueName: "f"))
  var contextFile: String?

  @OptionGroup var options: EngineOptions

  func run() async throws {
    var options = options
    if let path { options.model = path }
    let model = try await options.loadModel()
    guard let template = model.chatTemplate else {
      throw FileError(
        path: model.path, problem: model.chatTemplateProblem ?? "has no chat template")
    }
    let session: Session
    if let contextFile {
      let opened = try await options.base.openContext(contextFile, model)
      for notice in opened.notices { Terminal.note("[\(notice)]\n") }
      session = opened.session
    } else {
      session = try await options.makeSession(model)
    }
    let interrupts = InterruptSource()
    var chat = Chat(
      session: session, turnIsOpen: contextFile != nil, template: template,
      sampling: options.sampling(model.description.sampling),
      maximumTokens: options.maxTokens, interrupts: interrupts)
    if Terminal.inputIsTerminal {
      Terminal.line("\(URL(filePath: model.path).lastPathComponent). /help shows the commands.")
    }
    while let (line, isQuoted) = chat.readLine() {
      do {
        guard try await chat.handle(line, isQuoted: isQuoted) else { return }
      } catch is CancellationError {
        Terminal.line("\n[stopped]")
      } catch {
        Terminal.note("Error: \(error)\n")
      }
    }
  }
}

/// What a line that begins with a slash means.
enum ChatCommand: String, CaseIterable {
  case file, clear, stats, help, bye

  static let summary = """
    /file PATH  read a text; questions that follow are about it
    /clear      forget everything
    /stats      length of the context, attention, memory
    /help       this
    /bye        leave
    Three quotes begin and end a question of several lines.
    One Ctrl-C stops an answer, two leave.
    """
}

/// A conversation.
private struct Chat {
  let session: Session
  let template: ChatTemplate
  let sampling: SamplingOptions
  let maximumTokens: Int
  let interrupts: InterruptSource
  /// A text is stored in a turn that waits for its question.
  private var turnIsOpen: Bool
  private var lastCompletion: Completion?

  init(
    session: Session, turnIsOpen: Bool, template: ChatTemplate, sampling: SamplingOptions,
    maximumTokens: Int, interrupts: InterruptSource
  ) {
    self.session = session
    self.turnIsOpen = turnIsOpen
    self.template = template
    self.sampling = sampling
    self.maximumTokens = maximumTokens
    self.interrupts = interrupts
  }

  /// A line, or what stands between two marks of three quotes.
  func readLine() -> (text: String, isQuoted: Bool)? {
    if Terminal.inputIsTerminal { Terminal.write(">>> ") }
    guard let first = Swift.readLine() else { return nil }
    let quotes = "\"\"\""
    guard first.trimmingCharacters(in: .whitespaces).hasPrefix(quotes) else {
      return (first, false)
    }
    var text = String(first.drop { $0 == " " || $0 == "\t" }.dropFirst(quotes.count))
    while !text.hasSuffix(quotes) {
      if Terminal.inputIsTerminal { Terminal.write("... ") }
      guard let line = Swift.readLine() else { return (text, true) }
      text += "\n" + line
    }
    return (String(text.dropLast(quotes.count)).trimmingCharacters(in: .newlines), true)
  }

  /// Does what a line says; false when it says to leave.
  mutating func handle(_ line: String, isQuoted: Bool) async throws -> Bool {
    let line = line.trimmingCharacters(in: .whitespaces)
    guard line.hasPrefix("/"), !isQuoted else {
      if !line.isEmpty { try await answer(line) }
      return true
    }
    let parts = line.dropFirst().split(separator: " ", maxSplits: 1).map(String.init)
    switch parts.first.flatMap(ChatCommand.init(rawValue:)) {
    case .file:
      guard parts.count == 2 else { throw ValidationError("/file needs a path") }
      try await prefill(Self.unquoted(parts[1]))
    case .clear:
      try await session.clear()
      turnIsOpen = false
      lastCompletion = nil
      Terminal.line("Everything is forgotten.")
    case .stats: try await printStats()
    case .help: Terminal.line(ChatCommand.summary)
    case .bye: return false
    case nil:
      let known = ChatCommand.allCases.map { "/\($0.rawValue)" }.joined(separator: ", ")
      throw ValidationError("\(line) is no command; there are \(known)")
    }
    return true
  }

  /// A path as a shell would take it: without quotes and backslashes, the home folder for a tilde.
  private static func unquoted(_ text: String) -> String {
    var result = ""
    var quote: Character?
    var rest = text.trimmingCharacters(in: .whitespaces)[...]
    let isHome = rest == "~" || rest.hasPrefix("~/")
    while let character = rest.popFirst() {
      if character == "\\", quote != "'", let next = rest.popFirst() {
        result.append(next)
      } else if character == quote {
        quote = nil
      } else if quote == nil, character == "\"" || character == "'" {
        quote = character
      } else {
        result.append(character)
      }
    }
    guard isHome else { return result }
    return NSHomeDirectory() + result.dropFirst()
  }

  /// What opens the user's turn, and closes an answered one before it.
  private func opening() throws -> [ChatTemplate.Piece] {
    guard session.tokenCount > 0 else { return template.frame.opening }
    guard let reopening = template.frame.reopening else {
      throw ValidationError("the model's chat template takes one question only; /clear begins anew")
    }
    return reopening
  }

  private mutating func prefill(_ path: String) async throws {
    let text = try TextFile.read(path)
    let pieces: [ChatTemplate.Piece] =
      try (turnIsOpen ? [] : opening()) + [.text(text + "\n\n")]
    let end = try await serve(GenerationRequest(.pieces(pieces), maximumTokens: 0)).completion
    turnIsOpen = true
    Terminal.line(
      "\(sizeText(end.promptTokens - end.cachedTokens)) tokens prefilled in "
        + "\(decimal(end.prefillSeconds, 1)) s. Ask about them.")
  }

  private mutating func answer(_ question: String) async throws {
    let prompt: GenerationRequest.Prompt =
      turnIsOpen
      ? .pieces([.text(question)] + template.frame.closing)
      : .message(ChatMessage(role: .user, content: question))
    let answer = try await serve(
      GenerationRequest(prompt, sampling: sampling, maximumTokens: maximumTokens))
    turnIsOpen = false
    lastCompletion = answer.completion
    switch answer.completion.reason {
    case .stop: Terminal.line("")
    case .length: Terminal.line("\n[cut off at --max-tokens \(maximumTokens)]")
    case .context:
      Terminal.line("\n[cut off at --context \(session.contextLimit); /clear begins anew]")
    }
  }

  /// Serves a request that Ctrl-C can stop.
  private func serve(_ request: GenerationRequest) async throws -> CollectedAnswer {
    let session = session
    let task = Task {
      try await session.answer(request, progress: "Prefill") { Terminal.write($0) }
    }
    interrupts.handle { task.cancel() }
    defer { interrupts.handle(nil) }
    return try await task.value
  }

  private func printStats() async throws {
    var text =
      "context  \(session.tokenCount) tokens of at most \(session.contextLimit)\n"
      + "attention  \(session.attention.name), now \(session.policyName)\n"
      + "memory  \(byteText(MachineMemory.peakByteCount)) at most so far"
    if let last = lastCompletion {
      let prefilled = last.promptTokens - last.cachedTokens
      text +=
        "\nlast answer  \(prefilled) tokens prefilled in \(decimal(last.prefillSeconds, 2)) s, "
        + "\(last.completionTokens) decoded in \(decimal(last.decodeSeconds, 2)) s"
    }
    if let tiers = try await session.model.tierStatistics() {
      text +=
        "\nkeys and values  \(byteText(tiers.memoryByteCount)) in memory, \(byteText(tiers.diskByteCount)) in files; "
        + "read \(byteText(tiers.bytesRead)), written \(byteText(tiers.bytesWritten))"
      if let rate = tiers.hitRate {
        text +=
          "\npages read  \(decimal(100 * rate, 1)) % from memory; misses by layer "
          + tiers.misses.map(String.init).joined(separator: " ")
      }
    }
    Terminal.line(text)
  }
}

/// Ctrl-C: the first stops what is under way, a second one leaves.
private final class InterruptSource {
  private let source: any DispatchSourceSignal
  private let state = InterruptState()

  init() {
    signal(SIGINT, SIG_IGN)
    source = DispatchSource.makeSignalSource(signal: SIGINT, queue: .global())
    source.setEventHandler { [state] in state.press() }
    source.resume()
  }

  /// Sets what the next Ctrl-C does.
  func handle(_ handler: (@Sendable () -> Void)?) { state.set(handler) }
}

private final class InterruptState: Sendable {
  private struct Pressed {
    var handler: (@Sendable () -> Void)?
    var count = 0
  }

  private let pressed = Mutex(Pressed())

  func set(_ handler: (@Sendable () -> Void)?) {
    pressed.withLock {
      $0.handler = handler
      if handler != nil { $0.count = 0 }
    }
  }

  func press() {
    let now = pressed.withLock { state in
      state.count += 1
      return state
    }
    if now.count >= 2 {
      Terminal.note("\n")
      Foundation.exit(0)
    }
    if let handler = now.handler {
      handler()
    } else {
      Terminal.note("\n(Ctrl-C once more, or /bye, leaves)\n>>> ")
    }
  }
}
