// SPDX-License-Identifier: Apache-2.0

/// One turn of a conversation.
public struct ChatMessage: Sendable, Hashable {
  /// Who speaks.
  public enum Role: String, Sendable, Hashable, CaseIterable {
    case system, user, assistant
  }

  /// Who speaks.
  public var role: Role
  /// What is said.
  public var content: String

  /// Creates a message.
  public init(role: Role, content: String) {
    self.role = role
    self.content = content
  }
}

/// How a conversation is written for a model.
public enum ChatTemplate: Sendable, Hashable {
  /// `<|im_start|>role`, the text, `<|im_end|>`, each turn on lines of its own.
  case chatML

  /// A part of a rendered conversation.
  public enum Piece: Sendable, Hashable {
    /// A control token by its name.
    case control(String)
    case text(String)
  }

  /// Recognises the Jinja template of a model file.
  public init(jinja: String) throws(TokenizerError) {
    guard Self.isPlainChatML(jinja) else {
      let start = String(jinja.prefix(60)).split(whereSeparator: \.isNewline).joined(separator: " ")
      throw TokenizerError(
        "the chat template is not plain ChatML, the one kind supported so far (it begins: "
          + "\(start)…). Give the prompt as the model expects it with --raw")
    }
    self = .chatML
  }

  /// The conversation in pieces; with `openingAnswer`, ends where the assistant is to speak.
  public func render(_ messages: [ChatMessage], openingAnswer: Bool) -> [Piece] {
    var pieces: [Piece] = []
    for message in messages {
      pieces += [
        .control("<|im_start|>"), .text("\(message.role.rawValue)\n\(message.content)"),
        .control("<|im_end|>"), .text("\n"),
      ]
    }
    if openingAnswer { pieces += [.control("<|im_start|>"), .text("assistant\n")] }
    return pieces
  }

  /// The control token that ends a turn.
  public var endOfTurn: String { "<|im_end|>" }

  /// Whether every literal of the template belongs to ChatML: one with a default system prompt, for
  /// example, would be rendered wrongly.
  private static func isPlainChatML(_ jinja: String) -> Bool {
    guard jinja.contains("<|im_start|>"), jinja.contains("<|im_end|>") else { return false }
    var words: Set<Substring> = []
    var inTag = false
    var literal: (quote: Character, start: String.Index)?
    var textStart = jinja.startIndex
    var index = jinja.startIndex
    while index < jinja.endIndex {
      let character = jinja[index]
      let rest = jinja[index...]
      let after = jinja.index(after: index)
      if let open = literal {
        if character == "\\" {
          index = after < jinja.endIndex ? jinja.index(after: after) : after
          continue
        }
        if character == open.quote {
          words.insert(jinja[open.start..<index])
          literal = nil
        }
      } else if inTag {
        if character == "'" || character == "\"" { literal = (character, after) }
        if rest.hasPrefix("}}") || rest.hasPrefix("%}") {
          inTag = false
          index = jinja.index(after: after)
          textStart = index
          continue
        }
      } else if rest.hasPrefix("{{") || rest.hasPrefix("{%") {
        words.insert(jinja[textStart..<index])
        inTag = true
      }
      index = after
    }
    if !inTag { words.insert(jinja[textStart...]) }
    let allowed: Set<String> = [
      "<|im_start|>", "<|im_end|>", "assistant", "user", "system", "role", "content", "",
    ]
    return words.allSatisfy { word in
      word.replacing("\\n", with: "\n").replacing("<|im_start|>", with: "\n")
        .replacing("<|im_end|>", with: "\n").split(whereSeparator: \.isWhitespace)
        .allSatisfy { allowed.contains(String($0)) }
    }
  }
}
