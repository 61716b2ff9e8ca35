// SPDX-License-Identifier: Apache-2.0

internal import HiPGrammar
internal import HiPJSON
internal import HiPTemplates
internal import HiPTokenization
internal import InfiniteHiP

/// A conversation that is to go on, as both APIs ask for it.
struct ChatRequest: Sendable {
  var messages: [ChatMessage]
  var tools: [Tool] = []
  var choice = ToolChoice.automatic
  /// What the answer must be; nil: anything.
  var format: [Grammar.Part]?
  /// Whether the model is to think; nil: as it likes.
  var thinks: Bool?
  var effort: String?
  var suffix: String?

  /// Which tools the model may or must call.
  enum ToolChoice: Sendable, Hashable {
    case automatic, none, required
    case named(String)
  }

  /// A function that the model may call.
  struct Tool: Sendable, Hashable {
    let document: JSONValue
    let name: String
    let parameters: JSONValue?
    let isStrict: Bool

    init(_ fields: RequestFields) throws(ServerError) {
      guard let function = try fields.fields("function"), let name = try function.text("name"),
        !name.isEmpty
      else { throw fields.wrong("function", "an object with a name") }
      document = fields["type"] == nil ? fields.object.adding(["type": "function"]) : fields.object
      self.name = name
      parameters = try function.fields("parameters")?.object
      isStrict = try function.flag("strict") ?? false
    }
  }

  /// The prompt of a model, and how its answer is read.
  func prompt(of model: ServedModel, by template: ChatTemplate? = nil) throws -> (
    tokens: [TokenID], parser: AnswerParser, constraint: AnswerConstraint?, readsCalls: Bool
  ) {
    let template = try template ?? model.template()
    let dialect = model.dialect
    let usesTools = !tools.isEmpty && choice != .none
    var settings = ChatTemplate.Settings()
    settings.thinks =
      format != nil || isCallForced ? (dialect.thinking == nil ? nil : false) : thinks
    settings.effort = effort
    settings.suffix = suffix
    // What the template cannot write is told in words.
    let messages = template.writesCalls ? messages : Self.spelledOut(messages)
    let pieces: [ChatTemplate.Piece]
    if usesTools, !template.writesTools {
      pieces = try Self.render(messages, telling: tools, settings, template)
    } else {
      if usesTools { settings.tools = tools.map(\.document) }
      pieces = try template.render(messages, settings: settings, openingAnswer: true)
    }
    let tokens = try model.model.tokens(of: .pieces(pieces), atBeginning: true)
    let isConstrained = format != nil || isCallForced
    return (
      tokens,
      AnswerParser(
        dialect, readsCalls: usesTools && format == nil,
        splitsThinking: !isConstrained && thinks != false),
      try constraint(model), usesTools
    )
  }

  private var isCallForced: Bool {
    switch choice {
    case .automatic, .none: false
    case .required, .named: true
    }
  }

  private func constraint(_ model: ServedModel) throws -> AnswerConstraint? {
    if let format { return try model.constraint(format) }
    let called: [Tool]
    switch choice {
    case .automatic, .none: return nil
    case .required:
      guard !tools.isEmpty else {
        throw ServerError.badRequest(
          "tool_choice is \"required\", but there are no tools", parameter: "tool_choice")
      }
      called = tools
    case .named(let name):
      called = tools.filter { $0.name == name }
      guard !called.isEmpty else {
        throw ServerError.badRequest(
          "tool_choice names \"\(name)\", which is none of the tools", parameter: "tool_choice")
      }
    }
    return try model.constraint(
      model.dialect.grammar(of: called.map { ($0.name, $0.parameters) }))
  }

  /// Calls and their results as texts, for templates that know of neither.
  private static func spelledOut(_ messages: [ChatMessage]) -> [ChatMessage] {
    messages.map { message in
      var message = message
      for call in message.toolCalls {
        let value: JSONValue = ["name": .text(call.name), "arguments": call.arguments]
        message.content +=
          (message.content.isEmpty ? "" : "\n") + "<tool_call>\n\(value.json)\n</tool_call>"
      }
      message.toolCalls = []
      if message.role == .tool {
        message.role = .user
        message.content = "<tool_response>\n\(message.content)\n</tool_response>"
      }
      return message
    }
  }

  /// A conversation that begins by telling of tools: in the system message, or, where the template takes none, before
  /// what the user says first.
  private static func render(
    _ messages: [ChatMessage], telling tools: [Tool], _ settings: ChatTemplate.Settings,
    _ template: ChatTemplate
  ) throws -> [ChatTemplate.Piece] {
    let text = ToolDialect.instructions(tools.map(\.document))
    var told = messages
    if let first = told.first, first.role == .system {
      told[0].content += (first.content.isEmpty ? "" : "\n\n") + text
    } else {
      told.insert(ChatMessage(role: .system, content: text), at: 0)
    }
    do {
      return try template.render(told, settings: settings, openingAnswer: true)
    } catch {
      guard error.code == .raised,
        let user = messages.firstIndex(where: { $0.role == .user })
      else { throw error }
      var folded = messages
      folded[user].content = text + "\n\n" + folded[user].content
      return try template.render(folded, settings: settings, openingAnswer: true)
    }
  }

  /// What a model's store says of every conversation, before this one.
  mutating func addDefaults(of model: ServedModel) {
    if !model.messages.isEmpty { messages = model.messages + messages }
    if let system = model.system, !messages.contains(where: { $0.role == .system }) {
      messages.insert(ChatMessage(role: .system, content: system), at: 0)
    }
  }
}

/// What `format` and `response_format` say an answer must be.
enum AnswerFormat {
  /// Ollama's `format`: `"json"`, or a schema.
  static func ollama(_ fields: RequestFields) throws(ServerError) -> [Grammar.Part]? {
    switch fields["format"] {
    case nil, .text("")?: return nil
    case .text("json")?: return [.anyObject]
    case .some(let schema) where schema.members != nil: return [.schema(schema)]
    default: throw fields.wrong("format", "\"json\" or a JSON schema")
    }
  }

  /// OpenAI's `response_format`.
  static func openAI(_ fields: RequestFields) throws(ServerError) -> [Grammar.Part]? {
    guard let format = try fields.fields("response_format") else { return nil }
    switch try format.text("type") {
    case "text": return nil
    case "json_object": return [.anyObject]
    case "json_schema":
      guard let schema = try format.fields("json_schema")?.fields("schema") else {
        throw format.wrong("json_schema", "an object with a schema")
      }
      return [.schema(schema.object)]
    default: throw format.wrong("type", "\"text\", \"json_object\" or \"json_schema\"")
    }
  }
}
