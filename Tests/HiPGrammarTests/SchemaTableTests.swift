// SPDX-License-Identifier: Apache-2.0

import HiPGrammar
import HiPJSON
import Testing

/// A schema, with texts that are in its grammar and texts that are not.
struct SchemaCase: Sendable, CustomTestStringConvertible {
  let schema: String
  let yes: [String]
  let no: [String]

  var testDescription: String { schema }
}

@Suite struct SchemaTables {
  @Test(arguments: SchemaCase.scalars + SchemaCase.composites + SchemaCase.patterns)
  func everyKeywordAcceptsAndRejects(_ row: SchemaCase) throws {
    let matcher = try matcher(row.schema)
    for text in row.yes { #expect(matcher.accepts(text), "\(text)") }
    for text in row.no { #expect(!matcher.accepts(text), "\(text)") }
  }

  @Test func partsStandOneAfterTheOther() throws {
    let schema = try json(#"{"type":"object","properties":{"a":{"type":"integer"}}}"#)
    let call: [Grammar.Part] = [
      .literal("<tool_call>\n{\"name\": \"f\", \"arguments\": "), .schema(schema),
      .literal("}\n</tool_call>"),
    ]
    let grammar = try Grammar([
      .choice([call, [.literal("no")], [.anyObject]]), .optional([.literal("!")]),
    ])
    let matcher = GrammarMatcher(grammar)
    let text = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"
    #expect(matcher.accepts(text))
    #expect(matcher.accepts(text + "!"))
    #expect(matcher.accepts("no"))
    #expect(matcher.accepts("{\"x\":[{}]}!"))
    #expect(!matcher.accepts("yes"))
    #expect(!matcher.accepts(text.replacing("1", with: "\"1\"")))
  }

  @Test func completeMeansThatNothingFollows() throws {
    let matcher = try matcher(#"{"type":"integer","minimum":0,"maximum":12}"#)
    let one = try #require(matcher.advance(matcher.start, "1".utf8))
    #expect(matcher.isAccepting(one) && !matcher.isComplete(one))
    let twelve = try #require(matcher.advance(one, "2".utf8))
    #expect(matcher.isAccepting(twelve) && matcher.isComplete(twelve))
    #expect(!matcher.isAccepting(matcher.start))
  }

  @Test func integersOfARangeAreExact() throws {
    var generator = SeededGenerator(7)
    for _ in 0..<60 {
      let low = Int.random(in: -300...300, using: &generator)
      let high = low + Int.random(in: 0...400, using: &generator)
      let matcher = try matcher(#"{"type":"integer","minimum":\#(low),"maximum":\#(high)}"#)
      for number in -800...800 {
        #expect(matcher.accepts("\(number)") == (low...high).contains(number))
      }
    }
  }
}
