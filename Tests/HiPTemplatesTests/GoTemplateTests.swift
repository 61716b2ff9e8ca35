// SPDX-License-Identifier: Apache-2.0

import HiPTemplates
import TestSupport
import Testing

private let clock = TemplateClock(year: 2024, month: 3, day: 1)

/// The language of Go's text/template, and the conversations that Ollama's rules make of it.
@Suite struct GoTemplateTests {
  private static let data = #"""
    {"Title": "Hi <b>", "Zero": 0, "Float": 2.5, "Off": false, "Nothing": null, "Euro": "a€b",
     "List": [1, "b", true], "Map": {"z": 1, "a": [2]}, "Deep": [{"tool_call_id": "t1", "anyOf": 3}],
     "Messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    """#

  private func execute(_ source: String) throws -> String {
    try GoTemplate(source).execute(try TemplateValue(json: Self.data), clock: clock).string
  }

  static let rendered = [
    // Text, trimming and comments.
    ("a {{ 1 }} b", "a 1 b"), ("a \n{{- 1 -}}\n b", "a1b"), ("{{-3}}", "-3"),
    ("{{- -3 -}} x", "-3x"),
    ("a {{/* note }} */}} b{{- /* tight */ -}} c", "a  bc"), ("}} {", "}} {"), ("{{\n1\n}}", "1"),
    // Literals.
    (#"{{ "a\n\"\x41\u20ac\101" }}"#, "a\n\"A€A"), (#"{{ `raw\n` }}"#, #"raw\n"#),
    (
      "{{ 'a' }} {{ '\\n' }} {{ 0x1F }} {{ 0b11 }} {{ 017 }} {{ 1_000 }} {{ 1.50 }} {{ 1e3 }} {{ +5 }}",
      "97 10 31 3 15 1000 1.5 1000 5"
    ),
    // Fields, and those that are missing.
    ("[{{ .Missing }}{{ .Missing.More }}{{ .Nothing }}{{ $.No.thing }}]{{ len .Missing }}", "[]0"),
    (
      "{{ if .Missing }}yes{{ else }}no{{ end }}{{ range .Missing }}x{{ else }}none{{ end }}",
      "nonone"
    ),
    (#"{{ eq .Missing "" }} {{ eq .Missing 0 }} {{ eq .Missing "x" }}"#, "true true false"),
    (
      "{{ (index .Deep 0).ToolCallID }} {{ (index .Deep 0).AnyOf }} {{ (index .Deep 0).Index }}",
      "t1 3 0"
    ),
    (
      "{{ .List }} {{ .Map }} {{ .Float }} {{ .Off }} {{ .Deep }}",
      #"[1 b true] {"z":1,"a":[2]} 2.5 false [{"tool_call_id":"t1","anyOf":3}]"#
    ),
    // Branches.
    ("{{ if .Zero }}a{{ else if .Off }}b{{ else if .List }}c{{ else }}d{{ end }}", "c"),
    (
      "{{ with .Title }}{{ . }}{{ else }}no{{ end }}{{ with .Zero }}x{{ else }}{{ len .List }}{{ end }}",
      "Hi <b>3"
    ),
    ("{{ with .Zero }}a{{ else with .Map }}{{ .z }}{{ end }}", "1"),
    (
      "{{ if and .Title (not .Off) }}y{{ end }}{{ and 1 0 2 }}{{ or 0 \"x\" }}{{ or 0 false }}",
      "y0xfalse"
    ),
    ("{{ or 1 (index .List 9) }}{{ and 0 (index .List 9) }}", "10"),
    // Loops.
    ("{{ range $i, $e := .List }}{{ $i }}={{ $e }},{{ end }}", "0=1,1=b,2=true,"),
    (
      "{{ range $k, $v := .Map }}{{ $k }}={{ $v }};{{ end }}{{ range 3 }}{{ . }}{{ end }}",
      "a=[2];z=1;012"
    ),
    (
      "{{ range .Messages }}{{ if eq .Role \"user\" }}{{ continue }}{{ end }}{{ .Content }}{{ end }}",
      "A"
    ),
    (
      "{{ range $i, $_ := .List }}{{ if eq $i 1 }}{{ break }}{{ end }}{{ $i }}{{ else }}none{{ end }}",
      "0"
    ),
    (
      "{{ range $i := 2 }}{{ range 9 }}{{ if gt . $i }}{{ break }}{{ end }}{{ . }}{{ end }};{{ end }}",
      "0;01;"
    ),
    // Scopes of variables.
    ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}", "21"),
    ("{{ $x := 1 }}{{ range .List }}{{ $x = . }}{{ end }}{{ $x }}", "true"),
    (
      "{{ $x := 1 }}{{ $x := $x }}{{ $x }}{{ if $y := 5 }}{{ $y }}{{ else }}{{ $y }}{{ end }}", "15"
    ),
    (
      "{{ range $i, $_ := .List }}{{ $last := eq (len (slice $.List $i)) 1 }}{{ $last }} {{ end }}",
      "false false true "
    ),
    ("{{ $m := .Map }}{{ $m.z }}{{ ($m).z }}{{ with .Map }}{{ $.Float }}{{ end }}", "112.5"),
    // Named templates.
    (
      #"{{ define "t" }}<{{ . }}{{ $ }}>{{ end }}{{ template "t" .Float }}{{ template "t" }}"#,
      "<2.52.5><>"
    ),
    (#"{{ block "b" .List }}{{ len . }}{{ end }}{{ template "b" "four" }}"#, "34"),
    (
      #"{{ define "r" }}{{ . }}{{ if . }}{{ template "r" slice . 1 }}{{ end }}{{ end }}{{ template "r" "ab" }}"#,
      "abb"
    ),
    // Functions.
    (
      "{{ eq 1 2 1 }} {{ ne 1 2 }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt \"a\" \"b\" }} {{ ge 2.5 2 }}",
      "true true true true false true"
    ),
    (
      "{{ len .Euro }} {{ slice .Euro 1 4 }} {{ index .Euro 0 }} {{ len .Map }} {{ index .Map \"a\" 0 }}",
      "5 € 97 2 2"
    ),
    (
      "{{ slice .List 1 }} {{ slice .List 0 1 }} {{ .List | len | printf \"%03d\" }}",
      "[b true] [1] 003"
    ),
    ("{{ print 1 2 \"a\" 3 true }}|{{ println \"a\" 1 }}", "1 2a3 true|a 1\n"),
    (
      #"{{ printf "%s|%d|%v|%q|%t|%x|%X|%5s|%-5s|%.2f|%%" "a" 7 .List "q\"\n" true 255 "az" "r" "l" 2.675 }}"#,
      #"a|7|[1 b true]|"q\"\n"|true|ff|617A|    r|l    |2.67|%"#
    ),
    (
      #"{{ printf "%d %s" "a" }} {{ printf "x" 1 }} {{ printf "%" }} {{ printf "%+d %05d %c %e" 3 -42 65 1234.5 }}"#,
      "%!d(string=a) %!s(MISSING) x%!(EXTRA int=1) %!(NOVERB) +3 -0042 A 1.234500e+03"
    ),
    (
      "{{ printf \"%.1f %.0f %f %g\" 0.25 2.5 1e21 1e-7 }} {{ 1e20 }} {{ 123456.5 }}",
      "0.2 2 1000000000000000000000.000000 1e-07 1e+20 123456.5"
    ),
    (
      #"{{ json .Title }} {{ json .List }} {{ .Map | json }} {{ json .Missing }} {{ json 1e-7 }} {{ json 3.0 }}"#,
      #""Hi <b>" [1,"b",true] {"z":1,"a":[2]} null 1e-7 3"#
    ),
    (#"{{ json "\"\\\n\t\x01\u2028é" }}"#, #""\"\\\n\t\u0001\u2028é""#),
    (
      "{{ html .Title }} {{ js \"it's <\" }} {{ urlquery \"a b&é\" }}",
      "Hi &lt;b&gt; it\\'s \\u003C a+b%26%C3%A9"
    ),
    (
      "{{ currentDate }} {{ currentDate \"x\" }} {{ yesterdayDate }}",
      "2024-03-01 2024-03-01 2024-02-29"
    ),
  ]

  @Test(arguments: rendered)
  func templatesAreExecutedAsGoDoes(_ source: String, _ expected: String) throws {
    #expect(try execute(source) == expected)
  }

  static let refused = [
    ("a\n{{ if }}x{{ end }}", "line 2: a value is missing in a pipeline"),
    ("{{ nope 1 }}", "line 1: function \"nope\" is not defined"),
    ("{{ $x }}", "line 1: undefined variable $x"),
    ("{{ if 1 }}{{ $x := 1 }}{{ end }}\n{{ $x }}", "line 2: undefined variable $x"),
    ("\n\n{{ if 1 }}", "line 3: {{if}} is not ended"),
    ("{{ break }}", "line 1: {{break}} outside of {{range}}"),
    ("{{ end }}", "line 1: {{end}} or {{else}} that nothing opens"),
    ("{{ 1", "line 1: an action is not closed"),
    ("{{ \"a }}", "line 1: a quoted text is not closed"),
    ("{{/* a", "line 1: a comment is not closed"),
    ("{{ 1 | 2 }}", "line 1: a pipeline passes on a value to what is no function"),
    ("{{ .A 1 }}", "line 1: arguments of what is no function"),
    ("{{ if 1 }}a{{ else }}b{{ else }}c{{ end }}", "line 1: a second {{else}} of {{if}}"),
    ("{{ template \"no\" }}", "line 1: template \"no\" not defined"),
    ("x\n{{ index .List 7 }}", "line 2: index out of range: 7"),
    ("{{ slice .List 2 1 }}", "line 1: slice out of range: [2, 1] of 3"),
    ("{{ eq .Title 1 }}", "line 1: incompatible types for comparison: string and int"),
    ("{{ .Title.More }}", "line 1: can't evaluate field More in type string"),
    ("{{ len 3 }}", "line 1: len of type int"),
    ("{{ not }}", "line 1: wrong number of arguments for not: 0"),
    ("{{ range true }}{{ end }}", "line 1: range can't iterate over a bool"),
    ("{{ 99999999999999999999 }}", "line 1: 99999999999999999999 is no number, or too large"),
    ("{{ range 9999999999 }}{{ end }}", nil),
    ("{{ $x := \"ab\" }}{{ range 99 }}{{ $x = print $x $x }}{{ end }}", nil),
    ("{{ range 9999999 }}{{ $.Title }}{{ end }}", nil), ("{{ printf \"%9999999d\" 1 }}", nil),
    (#"{{ define "r" }}{{ template "r" . }}{{ end }}{{ template "r" . }}"#, nil),
    (
      "{{ " + String(repeating: "(", count: 9999) + "1" + String(repeating: ")", count: 9999)
        + " }}", nil
    ),
    (
      String(repeating: "{{ if 1 }}", count: 9999) + String(repeating: "{{ end }}", count: 9999),
      nil
    ),
  ]

  @Test(arguments: refused)
  func whatIsWrongIsAnErrorWithItsLine(_ source: String, _ message: String?) {
    let error = #expect(throws: TemplateError.self) { try execute(source) }
    if let message { #expect(error?.message == message) } else { #expect(error?.code == .limit) }
  }

  /// Long texts of a template are no deep ones.
  @Test func longChainsAreNoDeepOnes() throws {
    let chain = String(repeating: ".A", count: 50_000)
    let cases = String(repeating: "{{ else if 0 }}", count: 50_000)
    #expect(try execute("{{ \(chain) }}{{ if 0 }}\(cases){{ else }}end{{ end }}") == "end")
  }

  @Test func fieldsOfTheTopLevelAreNamed() throws {
    let template = try GoTemplate(
      "{{ if .A }}{{ range $.B }}{{ eq (len .C.D) 1 }}{{ $x := . }}{{ $x.E }}{{ end }}{{ end }}")
    #expect(template.fields == ["A", "B", "C"])
  }

  @Test func aToolsTypesAreThoseOfTypeScript() throws {
    let data = try TemplateValue(
      json: #"""
        [{"type": "string"}, {"type": ["integer", "null"]}, {"type": "array"}, {"type": "object"}, {},
         {"anyOf": [{"type": "boolean"}, {"type": "number"}]}]
        """#)
    let template = try GoTemplate("{{ range . }}{{ toTypeScriptType . }};{{ end }}")
    #expect(
      try template.execute(data, clock: clock).string
        == "string;number | null;any[];Record<string, any>;any;boolean | number;")
  }

  /// A user's text stays data whatever the template does to it.
  @Test func whatIsDataStaysMarked() throws {
    let template = try GoTemplate(
      #"<{{ .T }}>{{ json .T }}{{ printf "%4s-%q" .T .T }}{{ slice .T 1 }}{{ print .T "c" }}{{ html .T }}"#
    )
    let data = TemplateValue.object([("T", .text(TemplateText("a<", isData: true)))])
    let text = try template.execute(data, clock: clock)
    #expect(text.string == #"<a<>"a<"  a<-"a<"<a<ca&lt;"#)
    #expect(text.runs.filter(\.isData).map(\.text) == ["a<", "a<", "a<", "a<", "<a<", "a&lt;"])
  }

  /// Templates of which some characters were changed, lost, doubled or exchanged for a part of
  /// another one end soon.
  @Test func damagedTemplatesEndSoon() throws {
    let sources = Self.rendered.map(\.0) + [GoConversationTests.qwen, GoConversationTests.llama]
    let data = try TemplateValue(json: Self.data)
    var random = SeededNumbers(11)
    for round in 0..<(20_000 / debugDivisor) {
      var bytes = Array(sources[round % sources.count].utf8)
      for _ in 0...random.index(below: 3) where !bytes.isEmpty {
        let place = random.index(below: bytes.count)
        switch random.index(below: 4) {
        case 0: bytes[place] = UInt8(random.index(below: 95) + 32)
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(bytes[place], at: place)
        default:
          let other = Array(sources[random.index(below: sources.count)].utf8)
          let start = random.index(below: other.count)
          bytes.insert(contentsOf: other[start..<min(other.count, start + 20)], at: place)
        }
      }
      guard let template = try? GoTemplate(String(decoding: bytes, as: UTF8.self)) else { continue }
      _ = try? template.execute(data, clock: clock)
    }
  }
}

/// Whole conversations in templates of well-known shapes.
@Suite struct GoConversationTests {
  private static func message(_ role: String, _ content: String) -> TemplateValue {
    .object([
      ("role", .text(TemplateText(role, isData: true))),
      ("content", .text(TemplateText(content, isData: true))),
    ])
  }

  private static let talk = [
    message("system", "S"), message("user", "Q1"), message("assistant", "A1"),
    message("user", "Q2"),
  ]

  private static let tools = #"""
    [{"type":"function","function":{"name":"look","description":"<d>","parameters":{"type":"object",\#
    "required":["at"],"properties":{"at":{"type":"string","description":"where"}}}}}]
    """#

  private static let calls = #"""
    [{"role":"user","content":"Q"},
     {"role":"assistant","tool_calls":[{"function":{"name":"look","arguments":{"at":"b","n":1}}}]},
     {"role":"tool","tool_name":"look","content":"R1"},{"role":"tool","tool_name":"look","content":"R2"}]
    """#

  private func render(
    _ source: String, _ messages: [TemplateValue], tools: TemplateValue = .null,
    openingAnswer: Bool = true
  ) throws -> String {
    let conversation = GoConversation(messages: messages, tools: tools)
    return try conversation.render(
      by: GoTemplate(source), clock: clock, openingAnswer: openingAnswer
    ).string
  }

  private func list(_ json: String) throws -> [TemplateValue] {
    guard case .list(let list) = try TemplateValue(json: json) else { return [] }
    return list
  }

  static let qwen = #"""
    {{- if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>
    {{- else if .Messages }}
    {{- if or .System .Tools }}<|im_start|>system
    {{- if .System }}
    {{ .System }}
    {{- end }}
    {{- if .Tools }}

    # Tools

    <tools>
    {{- range .Tools }}
    {"type": "function", "function": {{ .Function }}}
    {{- end }}
    </tools>
    {{- end }}<|im_end|>
    {{ end }}
    {{- range $i, $_ := .Messages }}
    {{- $last := eq (len (slice $.Messages $i)) 1 -}}
    {{- if eq .Role "user" }}<|im_start|>user
    {{ .Content }}<|im_end|>
    {{ else if eq .Role "assistant" }}<|im_start|>assistant
    {{ if .Content }}{{ .Content }}
    {{- else if .ToolCalls }}<tool_call>
    {{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
    {{ end }}</tool_call>
    {{- end }}{{ if not $last }}<|im_end|>
    {{ end }}
    {{- else if eq .Role "tool" }}<|im_start|>user
    <tool_response>
    {{ .Content }}
    </tool_response><|im_end|>
    {{ end }}
    {{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
    {{ end }}
    {{- end }}
    {{- else }}{{ .Prompt }}{{ .Response }}{{ end }}
    """#

  static let llama = #"""
    <|begin_of_text|>
    {{- if or .System .Tools }}<|start_header_id|>system<|end_header_id|>
    {{- if .System }}

    {{ .System }}
    {{- end }}<|eot_id|>
    {{- end }}
    {{- range $i, $_ := .Messages }}
    {{- $last := eq (len (slice $.Messages $i)) 1 }}
    {{- if eq .Role "user" }}<|start_header_id|>user<|end_header_id|>
    {{- if and $.Tools $last }}

    Use these functions:
    {{ range $.Tools }}
    {{- . }}
    {{ end }}
    {{ .Content }}<|eot_id|>
    {{- else }}

    {{ .Content }}<|eot_id|>
    {{- end }}{{ if $last }}<|start_header_id|>assistant<|end_header_id|>

    {{ end }}
    {{- else if eq .Role "assistant" }}<|start_header_id|>assistant<|end_header_id|>
    {{- if .ToolCalls }}
    {{ range .ToolCalls }}
    {"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}
    {{- else }}

    {{ .Content }}
    {{- end }}{{ if not $last }}<|eot_id|>{{ end }}
    {{- else if eq .Role "tool" }}<|start_header_id|>ipython<|end_header_id|>

    {{ .Content }}<|eot_id|>{{ if $last }}<|start_header_id|>assistant<|end_header_id|>

    {{ end }}
    {{- end }}
    {{- end }}
    """#

  private static let gemma = #"""
    {{- $system := .System }}
    {{- range $i, $_ := .Messages }}
    {{- $last := eq (len (slice $.Messages $i)) 1 }}
    {{- if eq .Role "user" }}<start_of_turn>user
    {{ if $system }}{{ $system }}

    {{ $system = "" }}{{ end }}{{ .Content }}<end_of_turn>
    {{ if $last }}<start_of_turn>model
    {{ end }}
    {{- else if eq .Role "assistant" }}<start_of_turn>model
    {{ .Content }}{{ if not $last }}<end_of_turn>
    {{ end }}
    {{- end }}
    {{- end }}
    """#

  private static let mistral =
    "[INST] {{ if .System }}{{ .System }} {{ end }}{{ .Prompt }} [/INST]{{ .Response }}</s>"
  private static let phi = #"""
    {{ if .System }}<|system|>
    {{ .System }}<|end|>
    {{ end }}{{ if .Prompt }}<|user|>
    {{ .Prompt }}<|end|>
    {{ end }}<|assistant|>
    {{ .Response }}<|end|>

    """#
  private static let alpaca = #"""
    {{- if .System }}{{ .System }}

    {{ end }}{{ if .Prompt }}### Instruction:
    {{ .Prompt }}

    {{ end }}### Response:

    """#

  static let conversations = [
    (
      qwen,
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1"
        + "<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n"
    ),
    (
      llama,
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
        + "<|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|>"
        + "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>"
        + "<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|>"
        + "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    (
      gemma,
      "<start_of_turn>user\nS\n\nQ1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n"
        + "<start_of_turn>user\nQ2<end_of_turn>\n<start_of_turn>model\n"
    ),
    (mistral, "[INST] S Q1 [/INST]A1</s>[INST] Q2 [/INST]"),
    (
      phi,
      "<|system|>\nS<|end|>\n<|user|>\nQ1<|end|>\n<|assistant|>\nA1<|end|>\n<|user|>\nQ2<|end|>\n"
        + "<|assistant|>\n"
    ),
    (
      alpaca,
      "S\n\n### Instruction:\nQ1\n\n### Response:\nA1### Instruction:\nQ2\n\n### Response:\n"
    ),
    ("{{ range .Messages }}<|{{ .Role }}|>{{ end }}", "<|system|><|user|><|assistant|><|user|>"),
  ]

  @Test(arguments: conversations)
  func aConversationIsWrittenUpToTheAnswer(_ source: String, _ expected: String) throws {
    #expect(try render(source, Self.talk) == expected)
  }

  @Test func toolsAndTheirCallsHaveTheirWireForm() throws {
    let text = try render(
      Self.qwen, list(Self.calls), tools: TemplateValue(json: Self.tools))
    #expect(
      text == #"""
        <|im_start|>system

        # Tools

        <tools>
        {"type": "function", "function": {"name":"look","description":"<d>","parameters":{"type":"object",\#
        "required":["at"],"properties":{"at":{"type":"string","description":"where"}}}}}
        </tools><|im_end|>
        <|im_start|>user
        Q<|im_end|>
        <|im_start|>assistant
        <tool_call>
        {"name": "look", "arguments": {"at":"b","n":1}}
        </tool_call><|im_end|>
        <|im_start|>user
        <tool_response>
        R1
        </tool_response><|im_end|>
        <|im_start|>user
        <tool_response>
        R2
        </tool_response><|im_end|>
        <|im_start|>assistant

        """#)
    let llama = try render(Self.llama, list(Self.calls), tools: TemplateValue(json: Self.tools))
    #expect(
      llama.contains("\n{\"name\": \"look\", \"parameters\": {\"at\":\"b\",\"n\":1}}<|eot_id|>"))
    let asked = try render(
      Self.llama, [Self.message("user", "Q")], tools: TemplateValue(json: Self.tools))
    #expect(
      asked.contains(
        "Use these functions:\n" + Self.tools.dropFirst().dropLast() + "\n\nQ<|eot_id|>"))
  }

  @Test func theGapOfATextIsFilledInTheMiddle() throws {
    let conversation = GoConversation(messages: [Self.message("user", "def f")], suffix: "end")
    let text = try conversation.render(
      by: GoTemplate(Self.qwen), clock: clock, openingAnswer: true)
    #expect(text.string == "<|fim_prefix|>def f<|fim_suffix|>end<|fim_middle|>")
    #expect(text.runs.filter(\.isData).map(\.text) == ["def f", "end"])
  }

  @Test func messagesOfOneSpeakerAreOne() throws {
    let messages = [
      Self.message("system", "S1"), Self.message("system", "S2"), Self.message("user", "a"),
      Self.message("user", "b"), Self.message("user", ""), Self.message("system", "S3"),
    ]
    #expect(
      try render("{{ .System }}{{ range .Messages }}/{{ .Role }}:{{ .Content }}{{ end }}", messages)
        == "S1\n\nS2\n\nS3/system:S1\n\nS2/user:a\n\nb/system:S3")
  }

  @Test func anAnswerThatHasBegunGoesOn() throws {
    let messages = [Self.message("user", "Q"), Self.message("assistant", "Well,")]
    #expect(try render(Self.mistral, messages) == "[INST] Q [/INST]Well,")
    #expect(try render(Self.mistral, messages, openingAnswer: false) == "[INST] Q [/INST]Well,</s>")
    #expect(
      try render(Self.qwen, messages)
        == "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nWell,")
  }

  @Test func thinkingIsTold() throws {
    let template = try GoTemplate(
      "{{ .Messages | len }}{{ .IsThinkSet }}{{ .Think }}{{ .ThinkLevel }}{{ .Tools }}")
    for (conversation, expected) in [
      (GoConversation(messages: []), "0falsefalse"),
      (GoConversation(messages: [], think: false), "0truefalse"),
      (GoConversation(messages: [], thinkLevel: "high"), "0truetruehigh"),
    ] {
      #expect(
        try conversation.render(by: template, clock: clock, openingAnswer: true).string == expected)
    }
  }

  /// A role makes a control token, unless it spells more than a name; what is said never does.
  @Test func onlyNamesLoseTheirMarks() throws {
    let template = try GoTemplate("{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}")
    let messages = [Self.message("user", "<user>"), Self.message("<eos>", "x")]
    let text = try GoConversation(messages: messages).render(
      by: template, clock: clock, openingAnswer: true)
    #expect(text.runs.map(\.text) == ["<user>", "<user>", "<", "<eos>", ">", "x"])
    #expect(text.runs.map(\.isData) == [false, true, false, true, false, true])
  }
}
