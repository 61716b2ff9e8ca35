// SPDX-License-Identifier: Apache-2.0

import HiPGrammar
import HiPJSON
import Testing

@Suite struct GeneratedTexts {
  static let schemas = [
    "{}", #"{"type":"object"}"#, #"{"type":"array","maxItems":5}"#, #"{"type":"string"}"#,
    #"{"type":"string","minLength":2,"maxLength":6}"#, #"{"type":"number"}"#,
    #"{"type":["integer","null","boolean"],"minimum":-17,"maximum":4302}"#,
    #"{"enum":["a","b\u0001\"","é",3,null,[1,{"x":[]}]]}"#,
    #"{"properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{"type":"null"}}}"#,
    #"{"properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["b"]}"#,
    #"{"properties":{"ab":{"type":"null"},"ac":{}},"additionalProperties":{"type":"integer"}}"#,
    #"{"properties":{"q\"\n":{"type":"null"}},"additionalProperties":true,"required":["q\"\n"]}"#,
    #"{"additionalProperties":{"type":"array","items":{"type":"boolean"}}}"#,
    #"{"type":"object","required":["x","y"],"additionalProperties":{"type":"integer"}}"#,
    #"{"prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"null"}}"#,
    #"{"items":{"items":{"type":"integer","minimum":0,"maximum":9},"maxItems":2},"minItems":2}"#,
    #"{"anyOf":[{"type":"integer"},{"properties":{"k":{"const":"v"}},"required":["k"]}]}"#,
    ##"{"properties":{"v":{"type":"integer"},"l":{"$ref":"#/$defs/t"},"r":{"$ref":"#/$defs/t"}},"##
      + ##""required":["v","l"],"$defs":{"t":{"anyOf":[{"type":"null"},{"$ref":"#"}]}}}"##,
    ##"{"anyOf":[{"type":"string"},{"type":"array","items":{"$ref":"#"},"maxItems":3}]}"##,
    ##"{"anyOf":[{"properties":{"a":{"$ref":"#"},"b":{"type":"null"}},"required":["a"]},"##
      + ##"{"properties":{"a":{"$ref":"#"},"c":{"type":"null"}},"required":["a"]},"##
      + ##"{"type":"null"}]}"##,
    ##"{"properties":{"name":{"type":"string"},"kids":{"type":"array","items":{"$ref":"#"}}},"##
      + ##""required":["name","kids"]}"##,
  ]

  @Test(arguments: schemas)
  func everyTextParsesAndSatisfiesTheSchema(_ text: String) throws {
    let schema = try json(text)
    let matcher = try matcher(text)
    let validator = Validator(root: schema)
    var generator = SeededGenerator(UInt64(text.utf8.count))
    for round in 0..<60 {
      let bytes = try #require(matcher.randomText(&generator, patience: round * 2))
      let shown = String(decoding: bytes, as: UTF8.self)
      #expect(String(validating: bytes, as: UTF8.self) != nil, "\(bytes)")
      let value = try JSONValue(bytes)
      #expect(validator.accepts(value, schema), "\(shown)")
    }
  }

  @Test func ambiguityCostsLittle() throws {
    let matcher = try matcher(Self.schemas[19])
    let text =
      String(repeating: #"{"a":"#, count: 100) + "null" + String(repeating: "}", count: 100)
    #expect(matcher.accepts(text))
    #expect(matcher.accepts(text.dropLast() + #","c":null}"#))
  }

  @Test func freeValuesNestThirtyTwoDeep() {
    let matcher = GrammarMatcher(.anyObject)
    func nested(_ count: Int) -> String {
      #"{"a":"# + String(repeating: "[", count: count - 1)
        + String(repeating: "]", count: count - 1) + "}"
    }
    #expect(matcher.accepts(nested(32)))
    #expect(!matcher.accepts(nested(33)))
    #expect(matcher.accepts("{}"))
    #expect(!matcher.accepts("[]"))
    #expect(!matcher.accepts("1"))
  }

  @Test func textsAreValidUTF8Only() throws {
    let matcher = try matcher(#"{"type":"string"}"#)
    func isTaken(_ bytes: [UInt8]) -> Bool { matcher.accepts([0x22] + bytes + [0x22]) }
    for value in stride(from: UInt32(0x20), to: 0x110000, by: 37) {
      guard let scalar = Unicode.Scalar(value), value != 0x22, value != 0x5c else { continue }
      #expect(isTaken(Array(String(scalar).utf8)), "\(value)")
    }
    for bytes: [UInt8] in [
      [0x80], [0xc0, 0x80], [0xc1, 0xbf], [0xe0, 0x9f, 0x80], [0xed, 0xa0, 0x80],
      [0xf0, 0x8f, 0xbf, 0xbf], [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xc3],
      [0xe2, 0x82], [0xff],
    ] { #expect(!isTaken(bytes), "\(bytes)") }
  }

  @Test func whiteSpaceIsBounded() throws {
    let matcher = try matcher(#"{"type":"array","items":{"type":"null"}}"#)
    let blanks = { String(repeating: " ", count: $0) }
    #expect(matcher.accepts("[\n\(blanks(20))null, null\n]"))
    for text in [
      "[\n\(blanks(21))null]", "[  null]", "[\n\nnull]", "[\tnull]", "[null ,null]", " []",
    ] {
      #expect(!matcher.accepts(text), "\(text)")
    }
  }
}
