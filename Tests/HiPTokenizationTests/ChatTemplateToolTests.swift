// SPDX-License-Identifier: Apache-2.0

import HiPJSON
import HiPTemplates
import HiPTokenization
import Testing

/// How templates are told of tools, calls and their results.
@Suite struct ChatTemplateToolTests {
  private static let tool: JSONValue = [
    "type": "function",
    "function": [
      "name": "weather", "description": "of a city",
      "parameters": ["type": "object", "properties": ["city": ["type": "string"]]],
    ],
  ]

  private static let conversation: [ChatMessage] = {
    let call = ToolCall(id: "call_1", name: "weather", arguments: ["city": "Paris"])
    var result = ChatMessage(role: .tool, content: "9 degrees")
    (result.toolName, result.toolCallID) = ("weather", "call_1")
    return [
      ChatMessage(role: .user, content: "Weather?"),
      ChatMessage(role: .assistant, content: "", toolCalls: [call]), result,
    ]
  }()

  private func template(_ language: TemplateLanguage) throws -> ChatTemplate {
    try ChatTemplate(
      language, controlTokens: [], begin: nil, end: nil,
      clock: TemplateClock(year: 2026, month: 1, day: 2))
  }

  private func text(_ template: ChatTemplate, tools: [JSONValue] = [tool]) throws -> String {
    var settings = ChatTemplate.Settings()
    settings.tools = tools
    return try template.render(Self.conversation, settings: settings, openingAnswer: true)
      .map { piece in
        switch piece {
        case .control(let name): name
        case .text(let text): text
        }
      }.joined()
  }

  private static let loop = """
    {% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% for m in messages %}\
    {{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}\
    ARGUMENTS{% endfor %}\n{% endfor %}
    """

  /// Some templates write arguments themselves, others print the text that they are given.
  @Test(arguments: ["{{ c.function.arguments | tojson }}", "{{ c.function.arguments }}"])
  func argumentsAreObjectsOrTexts(_ arguments: String) throws {
    let source = Self.loop.replacing("ARGUMENTS", with: arguments)
    let template = try template(.jinja(Template(source)))
    #expect(template.writesTools && template.writesCalls)
    let written = try text(template)
    #expect(written.contains("weather{\"city\":"), "\(written)")
    #expect(written.contains("tool: 9 degrees") && written.contains("\"of a city\""))
  }

  /// A template that was made for tools has none to loop over.
  @Test func withoutToolsTheListIsEmpty() throws {
    let template = try template(.jinja(Template(Self.loop.replacing("ARGUMENTS", with: ""))))
    #expect(try text(template, tools: []).hasPrefix("user: Weather?"))
  }

  @Test func whatATemplateDoesNotWriteIsKnown() throws {
    let plain =
      "{% for m in messages %}{% if m.role != 'tool' %}{{ m.content }}{% endif %}{% endfor %}"
    let template = try template(.jinja(Template(plain)))
    #expect(!template.writesTools && !template.writesCalls)
  }

  @Test func aTemplateOfAStoreWritesThemToo() throws {
    let source = """
      {{ if .Tools }}{{ range .Tools }}{{ json .Function }}
      {{ end }}{{ end }}{{ range .Messages }}{{ .Role }}: {{ .Content }}\
      {{ range .ToolCalls }}{{ .Function.Name }}{{ json .Function.Arguments }}{{ end }}
      {{ end }}
      """
    let template = try template(.go(GoTemplate(source)))
    #expect(template.writesTools && template.writesCalls)
    let written = try text(template)
    #expect(written.contains("assistant: weather{\"city\":\"Paris\"}"), "\(written)")
    #expect(written.contains("{\"name\":\"weather\""))
  }

  @Test func anAnswerThatHasBegunGoesOn() throws {
    let template = try template(.jinja(Template(Self.loop.replacing("ARGUMENTS", with: ""))))
    let pieces = try template.render(
      [
        ChatMessage(role: .user, content: "Count."),
        ChatMessage(role: .assistant, content: "One, two,"),
      ], openingAnswer: true)
    #expect(pieces.last == .text("One, two,"))
  }
}
