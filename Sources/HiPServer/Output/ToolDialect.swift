// SPDX-License-Identifier: Apache-2.0

internal import HiPGrammar
internal import HiPJSON
package import HiPTokenization

/// How a model's family writes calls of tools, and thoughts, into its text.
package struct ToolDialect: Sendable, Hashable {
  /// How a call is written.
  package enum Form: Sendable, Hashable {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen, SmolLM, and models that are told so.
    case tagged
    /// The whole answer is `{"name": …, "parameters": …}`: Llama 3.
    case bare
    /// `[TOOL_CALLS][{"name": …, "arguments": …}]`, or `[TOOL_CALLS]name[ARGS]{…}`: Mistral.
    case marked
  }

  package let form: Form
  /// Whether the model's template tells it of tools; otherwise a system message does.
  package let isToldByTemplate: Bool
  /// What thoughts stand between; nil for families that do not mark any.
  package let thinking: Marks?

  /// What something stands between.
  package struct Marks: Sendable, Hashable {
    package let open: String
    package let close: String
    /// The template itself writes the opening mark.
    package let isOpened: Bool
  }

  /// Goes by what the template writes.
  package init(_ template: ChatTemplate?) {
    let source = template?.source ?? ""
    isToldByTemplate = template?.writesTools ?? false
    if source.contains("[TOOL_CALLS]") {
      form = .marked
    } else if isToldByTemplate, !source.contains("<tool_call>"),
      source.contains("parameters") || source.contains("<|python_tag|>")
    {
      form = .bare
    } else {
      form = .tagged
    }
    if source.contains("<think>") || source.contains("</think>") {
      thinking = Marks(
        open: "<think>", close: "</think>", isOpened: Self.isOpened("<think>", template))
    } else {
      thinking = nil
    }
  }

  /// Whether an answer begins behind an open mark.
  private static func isOpened(_ mark: String, _ template: ChatTemplate?) -> Bool {
    let pieces = try? template?.render(
      [ChatMessage(role: .user, content: "Hi")], openingAnswer: true)
    let end = (pieces ?? []).suffix(2).map { piece in
      switch piece {
      case .control(let name): name
      case .text(let text): text
      }
    }.joined()
    return end.reversed().drop { $0.isWhitespace }.starts(with: mark.reversed())
  }

  /// What tells a model of tools whose template does not.
  static func instructions(_ tools: [JSONValue]) -> String {
    let lines = tools.compactMap { $0["function"]?.json }.joined(separator: "\n")
    return """
      You may call functions. Their signatures, one JSON object a line:
      <tools>
      \(lines)
      </tools>
      To call one, answer with nothing but a JSON object in these tags:
      <tool_call>
      {"name": "NAME", "arguments": {…}}
      </tool_call>
      """
  }

  /// A text that is nothing but one call of one of these functions.
  func grammar(of functions: [(name: String, parameters: JSONValue?)]) -> [Grammar.Part] {
    let calls = functions.map { function -> [Grammar.Part] in
      let key = form == .bare ? "parameters" : "arguments"
      let head = "{\"name\": \(JSONValue.text(function.name).json), \"\(key)\": "
      let schema: Grammar.Part = function.parameters.map { .schema($0) } ?? .anyObject
      return [.literal(head), schema, .literal("}")]
    }
    let call: [Grammar.Part] = calls.count == 1 ? calls[0] : [.choice(calls)]
    return form == .tagged
      ? [.literal("<tool_call>\n")] + call + [.literal("\n</tool_call>")] : call
  }
}
