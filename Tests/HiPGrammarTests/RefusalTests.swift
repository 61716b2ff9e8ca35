// SPDX-License-Identifier: Apache-2.0

import HiPGrammar
import HiPJSON
import Testing

@Suite struct Refusals {
  @Test(arguments: [
    ("multipleOf", "2"), ("not", "{}"), ("if", "{}"), ("then", "{}"), ("else", "{}"),
    ("patternProperties", "{}"), ("dependentRequired", "{}"), ("dependentSchemas", "{}"),
    ("unevaluatedItems", "true"), ("unevaluatedProperties", "true"), ("uniqueItems", "true"),
    ("contains", "{}"), ("minProperties", "1"), ("maxProperties", "1"), ("propertyNames", "{}"),
    ("allOf", "[{},{}]"), ("nonsense", "1"),
  ])
  func unsupportedKeywordsAreNamedWithTheirPath(_ keyword: String, _ value: String) throws {
    let schema = try json(#"{"properties":{"a":{"items":{"\#(keyword)":\#(value)}}}}"#)
    let error = #expect(throws: GrammarError.self) { try Grammar(schema: schema) }
    #expect(error?.code == .unsupported)
    #expect(error?.path == "#/properties/a/items/\(keyword)")
    #expect(error?.message.contains("`\(keyword)`") == true)
  }

  @Test(
    arguments: [
      ("false", .unsatisfiable, "#"), ("1", .invalid, "#"),
      (#"{"type":"text"}"#, .invalid, "#/type"), (#"{"type":[]}"#, .invalid, "#/type"),
      (#"{"type":"number","minimum":1}"#, .unsupported, "#/minimum"),
      (#"{"type":["number","null"],"exclusiveMaximum":1}"#, .unsupported, "#/exclusiveMaximum"),
      (#"{"type":"integer","minimum":2,"maximum":1}"#, .unsatisfiable, "#"),
      (#"{"type":"integer","minimum":"x"}"#, .invalid, "#/minimum"),
      (#"{"type":"integer","exclusiveMinimum":true}"#, .invalid, "#/exclusiveMinimum"),
      (#"{"enum":[]}"#, .unsatisfiable, "#/enum"), (#"{"enum":1}"#, .invalid, "#/enum"),
      (#"{"type":"string","enum":[1]}"#, .unsatisfiable, "#/enum"),
      (#"{"enum":["a"],"minLength":1}"#, .unsupported, "#/minLength"),
      (#"{"anyOf":[]}"#, .invalid, "#/anyOf"),
      (#"{"anyOf":[{}],"type":"string"}"#, .unsupported, "#/type"),
      (#"{"minLength":3,"maxLength":2}"#, .unsatisfiable, "#/minLength"),
      (#"{"maxLength":10001}"#, .tooLarge, "#/maxLength"),
      (#"{"minItems":-1}"#, .invalid, "#/minItems"),
      (#"{"prefixItems":[{}],"items":false,"minItems":2}"#, .unsatisfiable, "#/minItems"),
      (#"{"properties":{"a":false}}"#, .unsatisfiable, "#/properties/a"),
      (#"{"properties":{"a":{},"a":{}}}"#, .invalid, "#/properties"),
      (#"{"properties":{},"required":["a"]}"#, .unsatisfiable, "#/required"),
      (##"{"$ref":"http://x"}"##, .invalid, "#/$ref"),
      (##"{"$ref":"#/$defs/x"}"##, .invalid, "#/$ref"),
      (##"{"$ref":"#"}"##, .unsatisfiable, "#"),
      (##"{"anyOf":[{"type":"null"},{"$ref":"#"}]}"##, .unsatisfiable, "#"),
      (
        ##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
        .unsatisfiable, nil
      ),
      (##"{"properties":{"a":{"$ref":"#"}},"required":["a"]}"##, .unsatisfiable, "#"),
      (#"{"format":"uri"}"#, .unsupported, "#/format"),
      (#"{"format":"date","pattern":"a"}"#, .unsupported, "#/format"),
      (#"{"pattern":"(?=a)"}"#, .unsupported, "#/pattern"),
      (#"{"pattern":"(a)\\1"}"#, .unsupported, "#/pattern"),
      (#"{"pattern":"a^b"}"#, .unsupported, "#/pattern"),
      (#"{"pattern":"(a"}"#, .invalid, "#/pattern"),
      (#"{"pattern":"a)"}"#, .invalid, "#/pattern"),
      (#"{"pattern":"[b-a]"}"#, .invalid, "#/pattern"),
      (#"{"pattern":"[a"}"#, .invalid, "#/pattern"), (#"{"pattern":"*"}"#, .invalid, "#/pattern"),
      (#"{"pattern":"a{2,1}"}"#, .invalid, "#/pattern"),
      (#"{"pattern":"a{"}"#, .invalid, "#/pattern"),
      (#"{"pattern":"a{1001}"}"#, .tooLarge, "#/pattern"),
      (#"{"pattern":"\\"}"#, .invalid, "#/pattern"),
      (#"{"pattern":"^[^\\s\\S]$"}"#, .unsatisfiable, "#"),
      (#"{"pattern":"((a{1000}){1000}){1000}"}"#, .tooLarge, "#"),
      (#"{"pattern":"(((a{0}){1000}){1000}){1000}"}"#, .tooLarge, "#"),
    ] as [(String, GrammarError.Code, String?)])
  func whatCannotBeIsRefused(_ schema: String, _ code: GrammarError.Code, _ path: String?) throws {
    let schema = try json(schema)
    let error = #expect(throws: GrammarError.self) { try Grammar(schema: schema) }
    #expect(error?.code == code)
    if let path { #expect(error?.path == path) }
  }

  @Test func longChainsAndDeepNestingNeedNoStack() throws {
    let chain = (0..<20_000).map { ##""d\##($0)":{"$ref":"#/$defs/d\##($0 + 1)"}"## }
    let text = ##"{"$ref":"#/$defs/d0","$defs":{\##(chain.joined(separator: ",")),"##
    #expect(try matcher(text + ##""d20000":{"type":"null"}}}"##).accepts("null"))

    var deep = JSONValue.object([])
    for _ in 0..<190 { deep = .object([.init(key: "items", value: deep)]) }
    let matcher = GrammarMatcher(try Grammar(schema: deep))
    #expect(
      matcher.accepts(String(repeating: "[", count: 190) + String(repeating: "]", count: 190)))
    for _ in 0..<20 { deep = .object([.init(key: "items", value: deep)]) }
    #expect(throws: GrammarError.self) { try Grammar(schema: deep) }
  }
}
