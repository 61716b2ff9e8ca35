// SPDX-License-Identifier: Apache-2.0

public import HiPJSON
public import HiPTemplates

/// How a conversation is written for a model: the Jinja template of its file, or the Go template of a store.
///
/// Names of control tokens become those tokens where the template writes them, never where a message holds
/// them.
public struct ChatTemplate: Sendable {
  private let renderer: Renderer

  /// What stands around the text of a user's turn, for texts that come in parts.
  public let frame: Frame
  /// Whether it tells the model of tools.
  public let writesTools: Bool
  /// Whether it writes what was called, and what came of it.
  public let writesCalls: Bool
  /// Its text.
  public var source: String { renderer.language.source }

  /// A part of a rendered conversation.
  public enum Piece: Sendable, Hashable {
    /// A control token by its name.
    case control(String)
    case text(String)
  }

  /// What stands around the text of a user's turn.
  public struct Frame: Sendable, Hashable {
    /// Before the first turn's text.
    public let opening: [Piece]
    /// Behind it, up to where the assistant speaks.
    public let closing: [Piece]
    /// From the end of an answer to the next turn's text; nil where the template refuses a second turn.
    public let reopening: [Piece]?
  }

  /// Reads the template of a model file or store.
  /// - Parameters:
  ///   - language: the template.
  ///   - controlTokens: names of the vocabulary's control tokens.
  ///   - begin: how the token is written that a text begins with, if there is one.
  ///   - end: how the one is written that ends it.
  ///   - clock: the date that the template may write.
  /// - Throws: `TemplateError` when it cannot write a question.
  public init(
    _ language: TemplateLanguage, controlTokens: [String], begin: String?, end: String?,
    clock: TemplateClock
  ) throws(TemplateError) {
    var variables: [(key: String, value: TemplateValue)] = [("documents", .null)]
    for (name, token) in [("bos_token", begin), ("eos_token", end)] {
      if let token { variables.append((name, .text(TemplateText(token)))) }
    }
    var renderer = Renderer(
      language: language, variables: variables, clock: clock,
      controlTokens: Self.sorted(controlTokens))
    renderer.argumentForm = Self.argumentForm(renderer)
    self.renderer = renderer
    writesTools = Self.writesTools(renderer)
    writesCalls = Self.writesCalls(renderer)
    let first = try Self.parts(
      renderer.text([.init(role: .user, content: Self.marks[0])], openingAnswer: true),
      around: [Self.marks[0]])
    let second = try? Self.parts(
      renderer.text(
        [
          .init(role: .user, content: Self.marks[0]),
          .init(role: .assistant, content: Self.marks[1]),
          .init(role: .user, content: Self.marks[2]),
        ], openingAnswer: true), around: [Self.marks[1], Self.marks[2]])
    frame = Frame(
      opening: renderer.pieces(first[0]), closing: renderer.pieces(first[1]),
      reopening: second.map { renderer.pieces($0[1]) })
  }

  /// Texts of the private use area, which stand where messages will.
  private static let marks = ["\u{e0a0}", "\u{e0a1}", "\u{e0a2}"]

  private static func parts(
    _ text: TemplateText, around marks: [String]
  ) throws(TemplateError) -> [TemplateText] {
    var parts: [TemplateText] = []
    var rest = text
    for mark in marks {
      guard let (before, after) = rest.cut(at: mark) else {
        throw TemplateError(.runtime, "the chat template does not write what the user says")
      }
      parts.append(before)
      rest = after
    }
    return parts + [rest]
  }

  /// The conversation in pieces; with `openingAnswer`, ends where the assistant is to speak, or behind what it has
  /// said already where the last message is its own.
  /// - Throws: `TemplateError`; with `raised` the template refuses the conversation, in its own words.
  public func render(
    _ messages: [ChatMessage], settings: Settings = Settings(), openingAnswer: Bool
  ) throws(TemplateError) -> [Piece] {
    guard openingAnswer, let last = messages.last, last.role == .assistant, last.toolCalls.isEmpty
    else {
      return renderer.pieces(
        try renderer.text(messages, settings: settings, openingAnswer: openingAnswer))
    }
    let before = try renderer.text(messages.dropLast(), settings: settings, openingAnswer: true)
    return renderer.pieces(before) + [.text(last.content)]
  }

  /// What a conversation is told besides its messages.
  public struct Settings: Sendable, Hashable {
    /// Tools that the model may call, as OpenAI's API describes them.
    public var tools: [JSONValue] = []
    /// Whether it is to think first; nil: as the template has it.
    public var thinks: Bool?
    /// How much it is to think, in the template's words.
    public var effort: String?
    /// What follows the place that is to be filled, for templates of stores.
    public var suffix: String?

    /// Nothing.
    public init() {}
  }

  /// Some templates print arguments as they are, and want them as JSON text; others write the JSON themselves.
  private static func argumentForm(_ renderer: Renderer) -> ToolArgumentForm {
    let call = ToolCall(name: "f", arguments: .object([.init(key: "k", value: .integer(1))]))
    let messages = [
      ChatMessage(role: .user, content: marks[0]),
      ChatMessage(role: .assistant, content: "", toolCalls: [call]),
      ChatMessage(role: .user, content: marks[1]),
    ]
    func writes(_ form: ToolArgumentForm) -> Bool {
      var renderer = renderer
      renderer.argumentForm = form
      let text = try? renderer.text(messages, openingAnswer: true).string
      // Not as Python prints an object, nor as JSON in JSON.
      return text.map { $0.contains("\"k\":") || $0.contains("k=1") } ?? false
    }
    return !writes(.object) && writes(.text) ? .text : .object
  }

  private static func writesCalls(_ renderer: Renderer) -> Bool {
    let call = ToolCall(id: "abcdefghi", name: marks[1], arguments: .object([]))
    var result = ChatMessage(role: .tool, content: marks[2])
    result.toolCallID = call.id
    result.toolName = marks[1]
    let text = try? renderer.text(
      [
        ChatMessage(role: .user, content: marks[0]),
        ChatMessage(role: .assistant, content: "", toolCalls: [call]), result,
      ], openingAnswer: true)
    return text.map { $0.string.contains(marks[1]) && $0.string.contains(marks[2]) } ?? false
  }

  private static func writesTools(_ renderer: Renderer) -> Bool {
    var settings = Settings()
    settings.tools = [
      .object([
        .init(key: "type", value: .text("function")),
        .init(
          key: "function",
          value: .object([
            .init(key: "name", value: .text(marks[1])),
            .init(key: "description", value: .text("")),
            .init(
              key: "parameters",
              value: .object([
                .init(key: "type", value: .text("object")),
                .init(key: "properties", value: .object([])),
              ])),
          ])),
      ])
    ]
    let text = try? renderer.text(
      [ChatMessage(role: .user, content: marks[0])], settings: settings, openingAnswer: true)
    return text?.string.contains(marks[1]) ?? false
  }

  /// A message behind an answer whose turn nothing has closed.
  public func renderNext(_ message: ChatMessage) throws(TemplateError) -> [Piece] {
    let text = try renderer.text(
      [
        .init(role: .user, content: Self.marks[0]), .init(role: .assistant, content: Self.marks[1]),
        message,
      ], openingAnswer: true)
    return renderer.pieces(try Self.parts(text, around: [Self.marks[1]])[1])
  }
}

/// A chat template in one of the languages that there are.
public enum TemplateLanguage: Sendable {
  case jinja(Template)
  case go(GoTemplate)

  /// Its text.
  public var source: String {
    switch self {
    case .jinja(let template): template.source
    case .go(let template): template.source
    }
  }
}

/// A template with all that it sees besides messages.
private struct Renderer: Sendable {
  let language: TemplateLanguage
  let variables: [(key: String, value: TemplateValue)]
  let clock: TemplateClock
  /// Names of control tokens, the longest first.
  let controlTokens: [[Unicode.Scalar]]
  var argumentForm = ToolArgumentForm.object

  func text(
    _ messages: [ChatMessage], settings: ChatTemplate.Settings = .init(), openingAnswer: Bool
  ) throws(TemplateError) -> TemplateText {
    let list = messages.map { $0.value(argumentForm) }
    let tools = TemplateValue.list(settings.tools.map { TemplateValue($0) })
    switch language {
    case .go(let template):
      var conversation = GoConversation(messages: list)
      if !settings.tools.isEmpty { conversation.tools = tools }
      conversation.think = settings.thinks
      conversation.thinkLevel = settings.effort
      conversation.suffix = settings.suffix
      return try conversation.render(by: template, clock: clock, openingAnswer: openingAnswer)
    case .jinja(let template):
      var variables = variables
      if let thinks = settings.thinks {
        variables += [("enable_thinking", .flag(thinks)), ("thinking", .flag(thinks))]
      }
      if let effort = settings.effort {
        variables.append(("reasoning_effort", .text(TemplateText(effort))))
      }
      variables += [("messages", .list(list)), ("add_generation_prompt", .flag(openingAnswer))]
      do {
        let value: TemplateValue = settings.tools.isEmpty ? .null : tools
        return try template.render(variables + [("tools", value)], clock: clock)
      } catch  where settings.tools.isEmpty && error.code != .raised {
        // Made for tools alone: it loops over them, and there are none.
        return try template.render(variables + [("tools", tools)], clock: clock)
      }
    }
  }

  func pieces(_ text: TemplateText) -> [ChatTemplate.Piece] {
    ChatTemplate.pieces(of: text, controlTokens)
  }
}

extension ChatTemplate {
  /// Control tokens where a template wrote their names, and the text between them.
  /// - Parameter controlTokens: their names.
  public static func pieces(of text: TemplateText, controlTokens: [String]) -> [Piece] {
    pieces(of: text, sorted(controlTokens))
  }

  /// Their characters, the longest name first.
  fileprivate static func sorted(_ controlTokens: [String]) -> [[Unicode.Scalar]] {
    controlTokens.filter { !$0.isEmpty }.map { Array($0.unicodeScalars) }
      .sorted { $0.count > $1.count }
  }

  fileprivate static func pieces(
    of text: TemplateText, _ controlTokens: [[Unicode.Scalar]]
  ) -> [Piece] {
    var pieces: [Piece] = []
    var plain = ""
    func flush() {
      if !plain.isEmpty { pieces.append(.text(plain)) }
      plain = ""
    }
    for run in text.runs {
      guard !run.isData else {
        plain += run.text
        continue
      }
      let scalars = Array(run.text.unicodeScalars)
      var index = 0
      while index < scalars.count {
        if let token = controlTokens.first(where: { scalars[index...].starts(with: $0) }) {
          flush()
          var name = String.UnicodeScalarView()
          name.append(contentsOf: token)
          pieces.append(.control(String(name)))
          index += token.count
        } else {
          plain.unicodeScalars.append(scalars[index])
          index += 1
        }
      }
    }
    flush()
    return pieces
  }
}

extension Tokenizer {
  private func stripped(_ text: String, behind token: TokenID?) -> String {
    guard let token, stripsSpace(after: token) else { return text }
    return String(text.drop { $0.isWhitespace })
  }

  /// Ids of a template's pieces; what messages hold is text, whatever it looks like.
  /// - Throws: `TokenizerError` when the template writes a control token that the vocabulary lacks.
  public func encode(_ pieces: [ChatTemplate.Piece]) throws(TokenizerError) -> [TokenID] {
    var ids: [TokenID] = []
    var text = ""
    for piece in pieces {
      switch piece {
      // What stands between two control tokens is one text, whoever wrote its parts.
      case .text(let more): text += more
      case .control(let name):
        guard let token = specialToken(name) else {
          throw TokenizerError(
            .invalid, "the chat template needs the token \(name), which the vocabulary lacks")
        }
        ids += encode(stripped(text, behind: ids.last), special: .text) + [token]
        text = ""
      }
    }
    return ids + encode(stripped(text, behind: ids.last), special: .text)
  }
}
