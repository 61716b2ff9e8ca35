// SPDX-License-Identifier: Apache-2.0

import HiPJSON
import HiPServer
import HiPTemplates
import HiPTokenization
import Testing

/// Answers of each family taken apart, however they are cut into pieces.
@Suite struct AnswerParserTests {
  static let templates: [String: String] = [
    "hermes": """
    {% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}<tool_call>{% endif %}\
    {% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}
    """,
    "llama": """
    {% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{"name": "f", \
    "parameters": {}}{% endif %}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}
    """,
    "mistral": """
    {% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}\
    {% for m in messages %}{% if m.tool_calls %}[TOOL_CALLS]{% endif %}{{ m.content }}{% endfor %}
    """,
    "plain": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    "thinking": """
    {% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}
    """,
    "opened": """
    {% for m in messages %}{{ m.content }}{% endfor %}\
    {% if add_generation_prompt %}<assistant><think>\n{% endif %}
    """,
  ]

  private func dialect(_ name: String) throws -> ToolDialect {
    let source = try #require(Self.templates[name])
    return ToolDialect(
      try ChatTemplate(
        .jinja(Template(source)), controlTokens: [], begin: nil, end: nil,
        clock: TemplateClock(year: 2026, month: 1, day: 1)))
  }

  /// The parts of a text, neighbours of a kind joined.
  private func parts(_ text: String, _ dialect: ToolDialect, piece: Int) -> [AnswerParser.Part] {
    var parser = AnswerParser(dialect, readsCalls: true, splitsThinking: true)
    var found: [AnswerParser.Part] = []
    let characters = Array(text)
    for start in stride(from: 0, to: characters.count, by: piece) {
      found += parser.append(String(characters[start..<min(start + piece, characters.count)]))
    }
    found += parser.finish()
    return found.reduce(into: []) { joined, part in
      switch (joined.last, part) {
      case (.content(let before)?, .content(let more)):
        joined[joined.count - 1] = .content(before + more)
      case (.thinking(let before)?, .thinking(let more)):
        joined[joined.count - 1] = .thinking(before + more)
      default: joined.append(part)
      }
    }
  }

  private static let weather = AnswerParser.Part.call(
    ToolCall(name: "weather", arguments: ["city": "Paris {x}", "days": 2]))
  private static let time = AnswerParser.Part.call(ToolCall(name: "time", arguments: [:]))
  private static let call = #"{"name": "weather", "arguments": {"city": "Paris {x}", "days": 2}}"#

  static let cases: [(family: String, text: String, parts: [AnswerParser.Part])] = [
    ("hermes", "<tool_call>\n\(call)\n</tool_call>", [weather]),
    (
      "hermes",
      "Let me see.\n<tool_call>\(call)</tool_call>\n<tool_call>{\"name\":\"time\"}</tool_call>",
      [.content("Let me see.\n"), weather, time]
    ),
    ("hermes", call, [weather]),
    ("hermes", "a < b, <tool is not", [.content("a < b, <tool is not")]),
    ("hermes", "<tool_call>no JSON</tool_call>", [.content("<tool_call>no JSON</tool_call>")]),
    ("hermes", "{\"a\": 1}", [.content("{\"a\": 1}")]),
    (
      "llama", #"{"name": "weather", "parameters": {"city": "Paris {x}", "days": 2}}"#, [weather]
    ),
    (
      "llama",
      #"<|python_tag|>{"name": "weather", "parameters": {"city": "Paris {x}", "days": 2}}"#,
      [weather]
    ),
    (
      "llama",
      #"{"name": "weather", "parameters": {"city": "Paris {x}", "days": 2}}; {"name": "time", "parameters": {}}"#,
      [weather, time]
    ),
    ("llama", "It is sunny.", [.content("It is sunny.")]),
    ("mistral", "[TOOL_CALLS][\(call), {\"name\": \"time\", \"arguments\": {}}]", [weather, time]),
    (
      "mistral",
      #"[TOOL_CALLS]weather[ARGS]{"city": "Paris {x}", "days": 2}[TOOL_CALLS]time[ARGS]{}"#,
      [weather, time]
    ),
    ("plain", "```json\n\(call)\n```", [.content("```json\n\(call)\n```")]),
    ("plain", "<tool_call>\n```json\n\(call)\n```\n</tool_call>", [weather]),
    (
      "thinking", "<think>\nHm < 3.\n</think>\n\nYes.",
      [.thinking("\nHm < 3.\n"), .content("Yes.")]
    ),
    ("thinking", "No thoughts.", [.content("No thoughts.")]),
    ("opened", "Hm.\n</think>\n\nYes.", [.thinking("Hm.\n"), .content("Yes.")]),
    ("opened", "Never done", [.thinking("Never done")]),
  ]

  @Test(arguments: cases.indices, [1, 2, 3, 7, 1000])
  func partsAreFoundHoweverTheyCome(_ index: Int, _ piece: Int) throws {
    let (family, text, expected) = Self.cases[index]
    let found = try parts(text, dialect(family), piece: piece)
    // Ids are the server's own.
    #expect(found == expected, "\(family): \(text)")
  }

  @Test func familiesAreKnownByTheirTemplates() throws {
    #expect(try dialect("hermes").form == .tagged && dialect("hermes").isToldByTemplate)
    #expect(try dialect("llama").form == .bare && dialect("mistral").form == .marked)
    #expect(try dialect("plain").form == .tagged && !dialect("plain").isToldByTemplate)
    #expect(try dialect("thinking").thinking?.isOpened == false)
    #expect(try dialect("opened").thinking?.isOpened == true && dialect("plain").thinking == nil)
  }

  @Test func withoutToolsNothingIsRead() throws {
    var parser = AnswerParser(try dialect("hermes"), readsCalls: false, splitsThinking: false)
    let text = "<tool_call>\(Self.call)</tool_call>"
    #expect(parser.append(text) + parser.finish() == [.content(text)])
  }
}
