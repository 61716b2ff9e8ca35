// SPDX-License-Identifier: Apache-2.0

import HiPGrammar
import HiPJSON
import Testing

/// Schemas that are mostly sensible, with some nonsense in them.
struct SchemaSource {
  var generator: SeededGenerator

  mutating func roll(_ count: Int) -> Int { Int.random(in: 0..<count, using: &generator) }

  mutating func value(_ depth: Int) -> JSONValue {
    switch roll(depth > 2 ? 6 : 8) {
    case 0: .null
    case 1: .flag(roll(2) == 0)
    case 2: .integer([0, 1, -1, 5, 10_000, .max, .min, 1_000][roll(8)])
    case 3: .number([0.5, -1e300, 1e18, .nan, .infinity, 3][roll(6)])
    case 4, 5: .text(text())
    case 6: .list((0..<roll(4)).map { _ in value(depth + 1) })
    default: .object((0..<roll(4)).map { _ in .init(key: text(), value: value(depth + 1)) })
    }
  }

  mutating func text() -> String {
    let texts = [
      "", "a", "b", "é\"\\", "#", "#/$defs/a", "#/properties/a", "#/anyOf/0", "string", "object",
      "date", "^(a|b){0,1000}$", "(a*)*", "((a|aa){0,100}){0,9}", "[^a", "\\p", "(?:", "x{9,",
      "ipv6",
    ]
    return texts[roll(texts.count)]
  }

  mutating func schema(_ depth: Int) -> JSONValue {
    if depth > 4 || roll(12) == 0 { return roll(3) == 0 ? value(1) : .object([]) }
    return .object((0...roll(3)).map { _ in keyword(depth) })
  }

  private mutating func keyword(_ depth: Int) -> JSONValue.Member {
    let keys = [
      "type", "type", "type", "properties", "properties", "required", "additionalProperties",
      "items",
      "prefixItems", "minItems", "maxItems", "enum", "const", "anyOf", "oneOf", "allOf", "$ref",
      "$ref", "$defs", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
      "exclusiveMinimum", "exclusiveMaximum", "nullable", "title", "not",
    ]
    let key = keys[roll(keys.count)]
    return .init(key: key, value: roll(15) == 0 ? value(0) : operand(of: key, depth))
  }

  private mutating func operand(of key: String, _ depth: Int) -> JSONValue {
    switch key {
    case "type":
      .text(["string", "number", "integer", "boolean", "null", "object", "array"][roll(7)])
    case "properties", "$defs":
      .object(["a", "b", "c"].prefix(roll(4)).map { .init(key: $0, value: schema(depth + 1)) })
    case "required": .list([.text("a")])
    case "items", "additionalProperties": schema(depth + 1)
    case "prefixItems", "anyOf", "oneOf", "allOf":
      .list((0..<roll(4)).map { _ in schema(depth + 1) })
    case "enum": .list((0..<roll(5)).map { _ in value(0) })
    case "$ref": .text(["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/items"][roll(5)])
    case "pattern", "format", "title": .text(text())
    case "nullable": .flag(true)
    default: .integer(roll(2) == 0 ? roll(10) : roll(10_000))
    }
  }
}

@Suite struct RandomSchemas {
  @Test(arguments: 0..<4)
  func noSchemaCrashesOrTakesLong(_ seed: Int) {
    var source = SchemaSource(generator: SeededGenerator(UInt64(seed)))
    let clock = ContinuousClock()
    var slowest = Duration.zero
    var built = 0
    for _ in 0..<1_000 {
      let schema = source.schema(0)
      let time = clock.measure {
        guard let grammar = try? Grammar(schema: schema) else { return }
        built += 1
        // What is built has texts: no walk gets stuck.
        let matcher = GrammarMatcher(grammar)
        var state = matcher.start
        for _ in 0..<40 {
          let choices = matcher.choices(state)
          guard let byte = choices.randomElement(using: &source.generator) else { break }
          state = matcher.advance(state, [byte]) ?? state
        }
        #expect(!matcher.choices(state).isEmpty || matcher.isAccepting(state), "\(schema)")
      }
      slowest = max(slowest, time)
    }
    print("seed \(seed): \(built) of 1000 schemas built, the slowest took \(slowest)")
    #expect(built > 100)
    #expect(slowest < .seconds(30))
  }

  @Test func mutatedSchemasNeverCrash() {
    var generator = SeededGenerator(5)
    for _ in 0..<4_000 {
      var text = Array((GeneratedTexts.schemas.randomElement(using: &generator) ?? "").utf8)
      for _ in 0...Int.random(in: 0..<3, using: &generator) where text.count > 4 {
        let place = Int.random(in: 0..<text.count - 3, using: &generator)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: text[place] = text.randomElement(using: &generator) ?? 0
        case 1: text.removeSubrange(place..<place + 2)
        default: text.insert(contentsOf: text[place..<place + 3], at: place)
        }
      }
      guard let schema = try? JSONValue(text), let grammar = try? Grammar(schema: schema) else {
        continue
      }
      let matcher = GrammarMatcher(grammar)
      #expect(!matcher.choices(matcher.start).isEmpty, "\(schema)")
    }
  }

  @Test func randomPatternsNeverCrash() {
    var generator = SeededGenerator(99)
    let pieces = Array("ab.*+?|()[]{}^$\\dsw,-01é\"u").map { String($0) }
    for _ in 0..<3_000 {
      let pattern = (0..<Int.random(in: 0..<14, using: &generator)).map { _ in
        pieces.randomElement(using: &generator) ?? ""
      }.joined()
      let schema = JSONValue.object([.init(key: "pattern", value: .text(pattern))])
      guard let grammar = try? Grammar(schema: schema) else { continue }
      let matcher = GrammarMatcher(grammar)
      if let text = matcher.randomText(&generator, patience: 20, limit: 400) {
        #expect((try? JSONValue(text))?.text != nil)
      }
    }
  }
}
