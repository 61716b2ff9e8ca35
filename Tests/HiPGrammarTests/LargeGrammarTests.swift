// SPDX-License-Identifier: Apache-2.0

import HiPGrammar
import HiPJSON
import Testing

@Suite struct LargeGrammars {
  /// Far more than a slow machine needs: what grows without bounds takes hours.
  private func expectShort(_ name: String, _ body: () throws -> Void) throws {
    let time = try ContinuousClock().measure(body)
    print("\(name): \(time)")
    #expect(time < .seconds(60), "\(name)")
  }

  @Test func thousandsOfNamesAndAlternativesAreFine() throws {
    let names = (0..<10_000).map { "value \($0)" }
    try expectShort("enum of 10,000") {
      let values = names.map { JSONValue.text($0) }
      let matcher = GrammarMatcher(
        try Grammar(schema: .object([.init(key: "enum", value: .list(values))])))
      #expect(matcher.accepts(#""value 9999""#) && !matcher.accepts(#""value 10000""#))
    }
    try expectShort("2,000 optional properties") {
      let text = names.prefix(2_000).map { #""\#($0)":{"type":"null"}"# }.joined(separator: ",")
      for more in ["false", "true"] {
        let matcher = try matcher(#"{"properties":{\#(text)},"additionalProperties":\#(more)}"#)
        #expect(matcher.accepts(#"{"value 3":null,"value 700":null,"value 1999":null}"#))
        #expect(!matcher.accepts(#"{"value 3":null,"value 700":1}"#))
        #expect(matcher.accepts(#"{"other":1}"#) == (more == "true"))
      }
    }
    try expectShort("5,000 references") {
      let entries = names.prefix(5_000).map { ##"{"$ref":"#/$defs/\##($0)"}"## }
      let defs = names.prefix(5_000).map { #""\#($0)":{"const":"\#($0)"}"# }
      let matcher = try matcher(
        #"{"anyOf":[\#(entries.joined(separator: ","))],"#
          + #""$defs":{\#(defs.joined(separator: ","))}}"#)
      #expect(matcher.accepts(#""value 4999""#) && !matcher.accepts(#""value 5000""#))
    }
  }

  @Test func longCountsAreExact() throws {
    try expectShort("10,000 characters") {
      let matcher = try matcher(#"{"type":"string","minLength":9999,"maxLength":10000}"#)
      for (count, isTaken) in [(9_998, false), (9_999, true), (10_000, true), (10_001, false)] {
        #expect(matcher.accepts("\"" + String(repeating: "é", count: count) + "\"") == isTaken)
      }
    }
    try expectShort("10,000 items") {
      let matcher = try matcher(#"{"items":{"type":"integer"},"maxItems":10000}"#)
      for (count, isTaken) in [(10_000, true), (10_001, false)] {
        let items = [String](repeating: "7", count: count).joined(separator: ",")
        #expect(matcher.accepts("[\(items)]") == isTaken)
      }
    }
  }

  @Test(arguments: [
    "^(a?){1000}$", "^((a?){100}){100}$", "^(a|aa){0,1000}$", "((a|aa){0,100}){0,9}",
    "^(((a*)*)*)*$", "^((a?){1000}){190}$", "^((a{1,1000}){1,90})$", "(a|b|ab){0,1000}c{1000}",
  ])
  func ambiguousPatternsTakeBoundedTime(_ pattern: String) throws {
    try expectShort(pattern) {
      let schema = JSONValue.object([.init(key: "pattern", value: .text(pattern))])
      guard let grammar = try? Grammar(schema: schema) else { return }
      let matcher = GrammarMatcher(grammar)
      #expect(
        matcher.advance(matcher.start, ("\"" + String(repeating: "a", count: 90)).utf8) != nil)
      let trie = TokenTrie(count: 40) { [UInt8](repeating: 0x61, count: Int($0)) }
      let inside = try #require(matcher.advance(matcher.start, "\"".utf8))
      #expect(matcher.mask(inside, over: trie).count == 39)
    }
  }

  @Test func whatIsTooLargeIsRefusedSoon() throws {
    try expectShort("too many items") {
      var schema = #"{"type":"null"}"#
      for _ in 0..<40 { schema = #"{"items":\#(schema),"maxItems":10000}"# }
      let error = #expect(throws: GrammarError.self) { _ = try matcher(schema) }
      #expect(error?.code == .tooLarge)
    }
  }

  @Test func oneMatcherServesManyTasks() async throws {
    let matcher = GrammarMatcher(.anyObject)
    let trie = TokenTrie(count: 256) { [UInt8($0)] }
    let counts = await withTaskGroup(of: Int.self) { group in
      for _ in 0..<8 {
        group.addTask {
          var state = matcher.start
          var count = 0
          for byte in #"{"key": [1, 2.5e3, "text é", {"a": null}], "b": true}"#.utf8 {
            count += matcher.mask(state, over: trie).count
            state = matcher.advance(state, [byte]) ?? matcher.start
          }
          return matcher.isComplete(state) ? count : 0
        }
      }
      return await group.reduce(into: Set<Int>()) { $0.insert($1) }
    }
    #expect(counts.count == 1 && counts.first ?? 0 > 0)
  }
}
