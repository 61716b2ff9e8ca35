// SPDX-License-Identifier: Apache-2.0

import HiPGrammar
import HiPJSON
import Testing

@Suite struct TokenMasks {
  private static let pieces =
    [
      "\":\"", "\"},{\"", "\"", "{\"", "}", "]", "[", ",", ": ", "\n  ", " ", "true", "null", "1",
      "-", "0.", "e", "\\", "\\u", "00", "é", "a", "ab", "name", "kids", "{\"name\":\"", "\"]",
    ].map { Array($0.utf8) } + [[0xc3], [0xa9], [0xf0, 0x9f], [0x98, 0x80], [0xff], []]

  /// Random strings of pieces, with repetitions, and some tokens without text.
  private func vocabulary(_ count: Int, _ generator: inout SeededGenerator) -> [[UInt8]?] {
    (0..<count).map { _ in
      guard Int.random(in: 0..<20, using: &generator) > 0 else { return nil }
      return (0..<Int.random(in: 1...4, using: &generator)).flatMap { _ in
        Self.pieces.randomElement(using: &generator) ?? []
      }
    }
  }

  @Test(arguments: [1, 7, 18, 20])
  func masksEqualTheCheckOfEveryToken(_ schema: Int) throws {
    var generator = SeededGenerator(UInt64(schema))
    for _ in 0..<3 {
      let tokens = vocabulary(300, &generator)
      let trie = TokenTrie(count: tokens.count) { tokens[Int($0)] }
      let masked = try matcher(GeneratedTexts.schemas[schema])
      let plain = try matcher(GeneratedTexts.schemas[schema])
      let text = try #require(plain.randomText(&generator, patience: 60))
      var (state, other) = (masked.start, plain.start)
      for byte in text {
        let mask = masked.mask(state, over: trie)
        #expect(mask == masked.mask(state, over: trie))
        var count = 0
        for (index, token) in tokens.enumerated() {
          let leads = token.map { !$0.isEmpty && plain.advance(other, $0) != nil } ?? false
          #expect(mask.contains(Int32(index)) == leads)
          count += leads ? 1 : 0
        }
        #expect(mask.count == count)
        state = try #require(masked.advance(state, [byte]))
        other = try #require(plain.advance(other, [byte]))
      }
    }
  }

  @Test func emptyVocabulariesAndOtherTriesAreFine() throws {
    let matcher = try matcher(#"{"type":"null"}"#)
    let empty = TokenTrie(count: 0) { _ in nil }
    #expect(matcher.mask(matcher.start, over: empty).count == 0)
    let small = TokenTrie(count: 2) { $0 == 0 ? [0x6e] : [0x78] }
    let mask = matcher.mask(matcher.start, over: small)
    #expect(mask.contains(0) && !mask.contains(1) && !mask.contains(2) && !mask.contains(-1))
    #expect(mask.words == [1])
  }

  /// Times that hold on a slow machine too; the figures are printed.
  @Test func largeVocabulariesAreFastEnough() throws {
    var generator = SeededGenerator(3)
    let letters = Array("etaoinshrdlu ETAOIN_0123456789\"{}[]:,.-\\\n".utf8)
    let tokens: [[UInt8]] = (0..<131_072).map { index in
      if index < 256 { return [UInt8(index)] }
      return (0..<Int.random(in: 2...9, using: &generator)).map { _ in
        if Int.random(in: 0..<8, using: &generator) == 0 {
          return UInt8.random(in: 0x80...0xf4, using: &generator)
        }
        return letters[min(Int.random(in: 0..<40, using: &generator), letters.count - 1)]
      }
    }
    let clock = ContinuousClock()
    var trie = TokenTrie(count: 0) { _ in nil }
    let building = clock.measure { trie = TokenTrie(count: tokens.count) { tokens[Int($0)] } }
    let matcher = GrammarMatcher(.anyObject)
    let atStart = clock.measure { _ = matcher.mask(matcher.start, over: trie) }
    let inText = try #require(matcher.advance(matcher.start, "{\"a\":\"".utf8))
    let first = clock.measure { _ = matcher.mask(inText, over: trie) }
    let inOtherText = try #require(matcher.advance(matcher.start, "{\"a\": [\"".utf8))
    let second = clock.measure { _ = matcher.mask(inOtherText, over: trie) }
    let kept = clock.measure { _ = matcher.mask(inText, over: trie) }
    print("trie \(building), at start \(atStart), in a text \(first), \(second), again \(kept)")
    #expect(matcher.mask(inText, over: trie).count > 10_000)
    #expect(building < .seconds(20) && atStart < .seconds(5) && first < .seconds(5))
  }
}
