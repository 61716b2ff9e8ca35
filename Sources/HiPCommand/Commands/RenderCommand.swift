// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPModelFiles
import HiPTemplates
import HiPTensors
import HiPTokenization
import InfiniteHiP

struct RenderCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "render",
    abstract: "Print a conversation as a chat template writes it, with nothing added.",
    discussion: """
      Where the template refuses the conversation, its words go to standard error, and the exit \
      status is 1.
      """)

  @Option(help: ArgumentHelp("Jinja file; in place of the model's.", valueName: "file"))
  var template: String?

  @Option(
    help: ArgumentHelp(
      "GGUF file or Hugging Face folder whose template is used.", valueName: "path"))
  var model: String?

  @Option(
    help: ArgumentHelp(
      "JSON list of messages, each with \"role\" and \"content\"; - for standard input.",
      valueName: "file"))
  var messages: String

  @Option(
    help: ArgumentHelp("JSON list of the tools that the template is told of.", valueName: "file"))
  var tools: String?

  @Option(
    help: ArgumentHelp(
      "A variable of the template, as enable_thinking=false; may be repeated.",
      valueName: "name=json"))
  var set: [String] = []

  @Option(help: ArgumentHelp("How the token is written that begins a text.", valueName: "text"))
  var bos: String?

  @Option(help: ArgumentHelp("How the token is written that ends a text.", valueName: "text"))
  var eos: String?

  @Flag(
    name: .customLong("no-generation-prompt"), help: "Do not open the assistant's turn at the end.")
  var isClosed = false

  @Option(
    help: ArgumentHelp(
      "The time that the template is told, as 2026-01-15T12:30:45; by default that of the clock.",
      valueName: "time"))
  var now: String?

  @Flag(help: "Print the ids as the engine is fed them; needs --model.")
  var ids = false

  func validate() throws {
    guard template != nil || model != nil else {
      throw ValidationError("give --template, --model, or both")
    }
    guard !ids || model != nil else {
      throw ValidationError("--ids needs the vocabulary of a --model")
    }
  }

  func run() throws {
    var variables: [(key: String, value: TemplateValue)] = []
    /// What is given first holds.
    func add(_ name: String, _ value: TemplateValue) {
      if !variables.contains(where: { $0.key == name }) { variables.append((name, value)) }
    }
    for pair in set {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2 else {
        throw ValidationError(
          "--set \(pair) is not of the form NAME=JSON, as enable_thinking=false")
      }
      do {
        add(String(parts[0]), try TemplateValue(json: String(parts[1])))
      } catch {
        throw ValidationError("--set \(pair): \(error); texts are written \"in quotes\"")
      }
    }
    if let bos { add("bos_token", .text(TemplateText(bos))) }
    if let eos { add("eos_token", .text(TemplateText(eos))) }
    let source = try source(add)
    add("messages", try json(messages))
    add("tools", try tools.map(json) ?? .null)
    add("documents", .null)
    add("add_generation_prompt", .flag(!isClosed))
    do {
      let clock = try now.map(Self.clock) ?? .now
      let text = try Template(source).render(variables, clock: clock)
      guard ids, let model else {
        Terminal.write(text.string)
        return
      }
      let described = try ModelText(ModelFile(path: model))
      let pieces = ChatTemplate.pieces(of: text, controlTokens: described.tokenizer.controlTokens)
      let begin = described.addsBegin ? described.begin.map { [$0] } ?? [] : []
      let prompt = try described.tokenizer.encode(pieces)
      try Terminal.printJSON(prompt.starts(with: begin) ? prompt : begin + prompt)
    } catch let error as TemplateError where error.code == .raised {
      Terminal.note(error.message + "\n")
      throw ExitCode(1)
    }
  }

  /// The template, and with a model how it writes its begin and end tokens.
  private func source(_ add: (String, TemplateValue) -> Void) throws -> String {
    guard let path = model else { return try TextFile.read(template ?? "") }
    let text = try ModelText(ModelFile(path: path))
    guard let source = try template.map({ try TextFile.read($0) }) ?? text.template else {
      throw FileError(path: path, problem: "has no chat template; give one with --template")
    }
    for (name, token) in [("bos_token", text.begin), ("eos_token", text.end)] {
      if let written = text.name(token) { add(name, .text(TemplateText(written))) }
    }
    return source
  }

  private func json(_ path: String) throws -> TemplateValue {
    do {
      return try TemplateValue(json: TextFile.read(path))
    } catch let error as TemplateError {
      throw FileError(path: path, problem: error.message, cause: error)
    }
  }

  private static func clock(_ text: String) throws -> TemplateClock {
    let parts = text.split { "-T:".contains($0) }.map { Int($0) }
    let numbers = parts.compactMap { $0 }
    guard parts.count == 6, numbers.count == 6, (1...9999).contains(numbers[0]),
      (1...12).contains(numbers[1]), (1...31).contains(numbers[2]), (0...23).contains(numbers[3]),
      (0...59).contains(numbers[4]), (0...59).contains(numbers[5])
    else { throw ValidationError("--now is \(text); it must be of the form 2026-01-15T12:30:45") }
    return TemplateClock(
      year: numbers[0], month: numbers[1], day: numbers[2], hour: numbers[3], minute: numbers[4],
      second: numbers[5])
  }
}
