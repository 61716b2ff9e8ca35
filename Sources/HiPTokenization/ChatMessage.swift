// SPDX-License-Identifier: Apache-2.0

public import HiPJSON
internal import HiPTemplates

/// One turn of a conversation.
public struct ChatMessage: Sendable, Hashable {
  /// Who speaks.
  public enum Role: String, Sendable, Hashable, CaseIterable {
    case system, user, assistant, tool
  }

  /// Who speaks.
  public var role: Role
  /// What is said.
  public var content: String
  /// What was thought before it was said.
  public var thinking: String?
  /// What an assistant calls.
  public var toolCalls: [ToolCall]
  /// Of which call a tool's message is the result.
  public var toolCallID: String?
  /// The tool that speaks.
  public var toolName: String?

  /// Creates a message.
  public init(role: Role, content: String, toolCalls: [ToolCall] = []) {
    self.role = role
    self.content = content
    self.toolCalls = toolCalls
  }
}

/// A call of a tool, as a model asks for it.
public struct ToolCall: Sendable, Hashable {
  /// What its result will be told by.
  public var id: String?
  /// The tool.
  public var name: String
  /// An object.
  public var arguments: JSONValue

  /// Stores the parts.
  public init(id: String? = nil, name: String, arguments: JSONValue) {
    self.id = id
    self.name = name
    self.arguments = arguments
  }
}

extension ChatMessage {
  /// The message as a template sees it.
  func value(_ form: ToolArgumentForm) -> TemplateValue {
    func data(_ text: String) -> TemplateValue { .text(TemplateText(text, isData: true)) }
    var members: [(key: String, value: TemplateValue)] = [
      ("role", .text(TemplateText(role.rawValue))), ("content", data(content)),
    ]
    if let thinking {
      members += [("thinking", data(thinking)), ("reasoning_content", data(thinking))]
    }
    if !toolCalls.isEmpty {
      members.append(
        (
          "tool_calls",
          .list(
            toolCalls.enumerated().map { index, call in
              .object([
                ("id", data(call.id ?? "call_\(index)")), ("type", .text(TemplateText("function"))),
                (
                  "function",
                  .object([
                    ("name", data(call.name)),
                    (
                      "arguments",
                      form == .object ? TemplateValue(call.arguments) : data(call.arguments.json)
                    ),
                  ])
                ),
              ])
            })
        ))
    }
    if let toolName { members += [("name", data(toolName)), ("tool_name", data(toolName))] }
    if let toolCallID { members.append(("tool_call_id", data(toolCallID))) }
    return .object(members)
  }
}

/// How the arguments of calls are given to a template.
enum ToolArgumentForm { case object, text }
