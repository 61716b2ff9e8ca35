// SPDX-License-Identifier: Apache-2.0

internal import HiPJSON
internal import HiPTokenization

extension ChatMessage {
  /// Reads a message of either API.
  init(_ fields: RequestFields) throws(ServerError) {
    let role = try fields.text("role")?.lowercased() ?? "user"
    guard let known = ChatMessage.Role(rawValue: role == "developer" ? "system" : role) else {
      throw fields.wrong("role", "one of system, user, assistant, tool")
    }
    if let images = fields["images"]?.items, !images.isEmpty {
      throw .badRequest(
        "\(fields.name("images")): this model takes no images", parameter: fields.name("images"))
    }
    self.init(role: known, content: try Self.content(fields))
    let thoughts = ["thinking", "reasoning_content", "reasoning"]
    thinking = try fields.first(of: thoughts)
    toolName = try fields.first(of: ["tool_name", "name"])
    toolCallID = try fields.text("tool_call_id")
    for call in try fields.objects("tool_calls") ?? [] {
      guard let function = try call.fields("function"), let name = try function.text("name") else {
        throw call.wrong("function", "an object with a name")
      }
      // Ollama's API has an object here, OpenAI's its text.
      var arguments = function["arguments"] ?? .object([])
      if let text = arguments.text {
        guard let parsed = try? JSONValue(Array(text.utf8)) else {
          throw function.wrong("arguments", "JSON")
        }
        arguments = parsed
      }
      toolCalls.append(ToolCall(id: try call.text("id"), name: name, arguments: arguments))
    }
  }

  /// A text, or the texts of parts.
  private static func content(_ fields: RequestFields) throws(ServerError) -> String {
    switch fields["content"] {
    case nil: return ""
    case .text(let text)?: return text
    case .list?:
      var text = ""
      for part in try fields.objects("content") ?? [] {
        switch try part.text("type") {
        case "text", "input_text", "output_text": text += try part.text("text") ?? ""
        case "image_url", "input_image", "image":
          throw .badRequest("\(part.path): this model takes no images", parameter: part.path)
        case let type:
          throw .badRequest(
            "\(part.path): parts of the type \"\(type ?? "none")\" cannot be read",
            parameter: part.path)
        }
      }
      return text
    default: throw fields.wrong("content", "a string or a list of parts")
    }
  }

  /// Reads a conversation; tools' results without a name take that of the call that they answer.
  static func list(_ fields: RequestFields) throws(ServerError) -> [ChatMessage] {
    var messages: [ChatMessage] = []
    var names: [String: String] = [:]
    var open: [String] = []
    for item in try fields.objects("messages") ?? [] {
      var message = try ChatMessage(item)
      for call in message.toolCalls {
        if let id = call.id { names[id] = call.name }
        open.append(call.name)
      }
      if message.role == .tool {
        let next = open.isEmpty ? nil : open.removeFirst()
        message.toolName = message.toolName ?? message.toolCallID.flatMap { names[$0] } ?? next
      }
      messages.append(message)
    }
    return messages
  }
}
