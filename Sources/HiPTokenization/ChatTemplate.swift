// SPDX-License-Identifier: Apache-2.0

public import HiPTemplates

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

/// How a conversation is written for a model: the Jinja template of its file.
///
/// Names of control tokens become those tokens where the template writes them, never where a message holds
/// them.
public struct ChatTemplate: Sendable {
  private let renderer: Renderer

  /// What stands around the text of a user's turn, for texts that come in parts.
  public let frame: Frame

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

  /// Reads the template of a model file.
  /// - Parameters:
  ///   - jinja: its text.
  ///   - controlTokens: names of the vocabulary's control tokens.
  ///   - begin: how the token is written that a text begins with, if there is one.
  ///   - end: how the one is written that ends it.
  ///   - clock: the date that the template may write.
  /// - Throws: `TemplateError` when it is no template, or cannot write a question.
  public init(
    jinja: String, controlTokens: [String], begin: String?, end: String?, clock: TemplateClock
  ) throws(TemplateError) {
    let template = try Template(jinja)
    var variables: [(key: String, value: TemplateValue)] = [("tools", .null), ("documents", .null)]
    for (name, token) in [("bos_token", begin), ("eos_token", end)] {
      if let token { variables.append((name, .text(TemplateText(token)))) }
    }
    renderer = Renderer(
      template: template, variables: variables, clock: clock,
      controlTokens: Self.sorted(controlTokens))
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
    let renderer = renderer
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

  /// The conversation in pieces; with `openingAnswer`, ends where the assistant is to speak.
  /// - Throws: `TemplateError`; with `raised` the template refuses the conversation, in its own words.
  public func render(
    _ messages: [ChatMessage], openingAnswer: Bool
  ) throws(TemplateError) -> [Piece] {
    renderer.pieces(try renderer.text(messages, openingAnswer: openingAnswer))
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

/// A template with all that it sees besides messages.
private struct Renderer: Sendable {
  let template: Template
  let variables: [(key: String, value: TemplateValue)]
  let clock: TemplateClock
  /// Names of control tokens, the longest first.
  let controlTokens: [[Unicode.Scalar]]

  func text(
    _ messages: [ChatMessage], openingAnswer: Bool
  ) throws(TemplateError) -> TemplateText {
    let list = messages.map { message in
      TemplateValue.object([
        ("role", .text(TemplateText(message.role.rawValue))),
        ("content", .text(TemplateText(message.content, isData: true))),
      ])
    }
    return try template.render(
      variables + [("messages", .list(list)), ("add_generation_prompt", .flag(openingAnswer))],
      clock: clock)
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
