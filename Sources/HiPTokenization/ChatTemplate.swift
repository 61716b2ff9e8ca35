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

  /// Whether a template does nothing but write each message between its markers: every literal belongs to
  /// ChatML, since one with a default system prompt, for example, would be rendered wrongly, and so would
  /// one that changes what it writes.
  private static func isPlainChatML(_ jinja: String) -> Bool {
    guard jinja.contains("<|im_start|>"), jinja.contains("<|im_end|>") else { return false }
    var texts: [Substring] = []
    var code: [Substring] = []
    var inTag = false
    var literal: (quote: Character, start: String.Index)?
    var start = jinja.startIndex
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
          texts.append(jinja[open.start..<index])
          (literal, start) = (nil, after)
        }
      } else if inTag {
        if character == "'" || character == "\"" {
          code.append(jinja[start..<index])
          literal = (character, after)
        }
        if rest.hasPrefix("}}") || rest.hasPrefix("%}") {
          code.append(jinja[start..<index])
          inTag = false
          index = jinja.index(after: after)
          start = index
          continue
        }
      } else if rest.hasPrefix("{{") || rest.hasPrefix("{%") {
        texts.append(jinja[start..<index])
        inTag = true
        index = jinja.index(after: after)
        start = index
        continue
      }
      index = after
    }
    guard !inTag, literal == nil else { return false }
    texts.append(jinja[start...])
    let words: Set<String> = [
      "<|im_start|>", "<|im_end|>", "assistant", "user", "system", "role", "content", "",
    ]
    let names: Set<String> = [
      "for", "message", "in", "messages", "endfor", "if", "endif", "add_generation_prompt", "role",
      "content",
    ]
    return texts.allSatisfy { word in
      word.replacing("\\n", with: "\n").replacing("<|im_start|>", with: "\n")
        .replacing("<|im_end|>", with: "\n").split(whereSeparator: \.isWhitespace)
        .allSatisfy { words.contains(String($0)) }
    }
      && code.allSatisfy { code in
        // Names, and what joins and looks them up: no filter, condition or call.
        code.split { !$0.isLetter && $0 != "_" }.allSatisfy { names.contains(String($0)) }
          && code.allSatisfy { $0.isLetter || $0.isWhitespace || "_-+.[]()".contains($0) }
      }
  }
}
