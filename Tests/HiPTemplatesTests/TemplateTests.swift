// SPDX-License-Identifier: Apache-2.0

import HiPTemplates
import TestSupport
import Testing

/// The language of chat templates, with values that Jinja2 3.1 gives.
@Suite struct TemplateTests {
  static let messages: TemplateValue = .list([
    turn("user", " Hi \"there\" "), turn("assistant", "Yes\n"),
  ])

  private static func turn(_ role: String, _ content: String) -> TemplateValue {
    .object([("role", .text(TemplateText(role))), ("content", .text(TemplateText(content)))])
  }

  private func render(_ source: String) throws -> String {
    try Template(source).render(
      [("messages", Self.messages)], clock: TemplateClock(year: 2026, month: 1, day: 2)
    ).string
  }

  static let rendered = [
    (
      "{{ messages | length }} {{ messages[-1].role }} {{ messages[0]['content'] | trim }}",
      "2 assistant Hi \"there\""
    ),
    (
      "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ m.role[:2] }}"
        + "{{ ',' if not loop.last }}{% endfor %}",
      "1/2us,2/2as"
    ),
    ("{% for m in messages if m.role == 'tool' %}x{% else %}none{% endfor %}", "none"),
    (
      "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + loop.index0 + 2 %}"
        + "{% endfor %}{{ ns.n }}",
      "5"
    ),
    (
      "{% macro turn(role, text='-') %}<{{ role }}>{{ text }}{% endmacro %}{{ turn('a') }}"
        + "{{ turn(text='b', role='c') }}",
      "<a>-<c>b"
    ),
    ("{{ messages | map(attribute='role') | join(' + ') }}", "user + assistant"),
    ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
    (
      "{{ {'a': [1, 2.5, none, true], 'b': 'x\"y'} | tojson }}",
      "{\"a\": [1, 2.5, null, true], \"b\": \"x\\\"y\"}"
    ),
    (
      "{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 'ab' * 2 }} {{ 1 ~ 2 }}",
      "3 -4 2 3.5 8 abab 12"
    ),
    (
      "{{ 'a,b,,c'.split(',') }} {{ 'a b  c'.rsplit(' ', 1) }} {{ 'Title case' | title }}",
      "['a', 'b', '', 'c'] ['a b ', 'c'] Title Case"
    ),
    (
      "{{ missing is defined }} {{ missing | default('d') }} {{ none is none }} {{ 'a' in 'cat' }}",
      "False d True True"
    ),
    (
      "{%- if false %}\n  no\n{%- elif 1 < 2 <= 2 %}\n  yes\n{%- endif %} end", "  yes end"
    ),
    ("a {# note #} b {%- raw %} {{ raw }} {% endraw -%} c", "a  b {{ raw }} c"),
    (
      "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}"
        + "{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
      "02"
    ),
    ("{{ 'abcdef'[1:4] }} {{ 'abcdef'[::-1] }} {{ [1,2,3][-2:] }}", "bcd fedcba [2, 3]"),
    ("{{ (-9223372036854775807 - 1) is divisibleby(-1) }}{{ '' * 60000000 }}", "True"),
    ("{{ 'aabaaab' | replace('aab', 'c') }} {{ 'abcab' in 'ababcab' }}", "cac True"),
    ("{% set x %}in{{ 'side' }}{% endset %}[{{ x }}]", "[inside]"),
    ("{{ 'a b'.rsplit(' ', 9223372036854775807) }}", "['a', 'b']"),
  ]

  @Test(arguments: rendered)
  func templatesAreRenderedAsJinjaDoes(_ source: String, _ expected: String) throws {
    #expect(try render(source) == expected)
  }

  /// Each doubles, nests or runs on until something must stop it.
  @Test(arguments: [
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
    "{% for i in range(9999999999) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ 'x' * 9223372036854775807 }}", "{{ 9223372036854775807 + 1 }}", "{{ 1 // 0 }}",
    "{{ " + String(repeating: "(", count: 300) + "1" + String(repeating: ")", count: 300) + " }}",
    String(repeating: "{% if true %}", count: 300), "{{ -", "{% for", "{{ 'a", "{% endif %}",
    "{% set n = namespace(x=1) %}{% for i in range(9999) %}{% set n.x = dict(a=n.x) %}{% endfor %}",
    "{% set n = namespace(x=1) %}{% for i in range(60000) %}{% set n.x = [n.x] %}{% endfor %}",
    "{% set a = 'a' * 300000 %}{% set b = a | replace('a', a) %}",
    "{% set a = 'a' * 3000000 %}{% for i in range(400000) %}{% set b = a | upper %}{% endfor %}",
    "{% set a = ['a' * 2000000] %}{% set b = (a + a + a + a + a) | join('x') %}",
    "{% set a = range(300000) %}", "{% set a = ('a' * 1000000) | list %}",
    "{% set a = ('a ' * 300000).split() %}", "{% set a = ('a' * 300000).split('a') %}",
    "{{ messages.x.y }}", "{{ raise_exception('no') }}", "{{ none() }}", "{{ 'a' + 1 }}",
  ])
  func whatNoTemplateNeedsIsAnError(_ source: String) {
    #expect(throws: TemplateError.self) { try render(source) }
  }

  /// Templates that a byte was changed, lost or doubled in render or throw.
  @Test func damagedTemplatesDoNotTrap() {
    var random = SeededNumbers(7)
    for (source, _) in Self.rendered {
      for _ in 0..<300 {
        var bytes = Array(source.utf8)
        for _ in 0...random.index(below: 3) {
          let place = random.index(below: bytes.count)
          switch random.index(below: 3) {
          case 0: bytes[place] = UInt8(random.index(below: 95) + 32)
          case 1 where bytes.count > 1: bytes.remove(at: place)
          default: bytes.insert(bytes[place], at: place)
          }
        }
        _ = try? render(String(decoding: bytes, as: UTF8.self))
      }
    }
  }

  @Test func whatIsDataStaysMarked() throws {
    let source = "<{{ text | trim | upper }}>{{ 'x' + text[1:3] }}"
    let result = try Template(source).render(
      [("text", .text(TemplateText(" ab ", isData: true)))],
      clock: TemplateClock(year: 2026, month: 1, day: 2))
    #expect(result.string == "<AB>xab")
    #expect(result.runs.filter(\.isData).map(\.text) == ["AB", "ab"])
  }

  /// What an expression makes is there when its members are asked for.
  @Test func aNamespaceHasItsMembersAtOnce() throws {
    let template = try Template("{{ namespace(n=3).n }}{{ namespace(n=4)['n'] }}")
    #expect(
      try template.render([], clock: TemplateClock(year: 2026, month: 1, day: 2)).string == "34")
  }
}
