// SPDX-License-Identifier: Apache-2.0

import HiPGrammar
import HiPJSON

/// A small generator with a seed, so that a failure comes again.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

func json(_ text: String) throws -> JSONValue { try JSONValue(Array(text.utf8)) }

func matcher(_ schema: String) throws -> GrammarMatcher {
  GrammarMatcher(try Grammar(schema: try json(schema)))
}

private let everyByte = TokenTrie(count: 256) { [UInt8($0)] }

extension GrammarMatcher {
  /// The bytes that may come next.
  func choices(_ state: State) -> [UInt8] {
    let mask = mask(state, over: everyByte)
    return (UInt8.min...UInt8.max).filter { mask.contains(Int32($0)) }
  }

  /// Whether the grammar has exactly this text.
  func accepts(_ bytes: some Sequence<UInt8>) -> Bool {
    advance(start, bytes).map { isAccepting($0) } ?? false
  }

  func accepts(_ text: String) -> Bool { accepts(text.utf8) }

  /// A random text; nil where none was finished within the limit.
  func randomText(_ generator: inout SeededGenerator, patience: Int, limit: Int = 20_000)
    -> [UInt8]?
  {
    var state = start
    var text: [UInt8] = []
    while text.count < limit {
      if isAccepting(state), isComplete(state) || Int.random(in: 0..<4, using: &generator) == 0 {
        return text
      }
      let choices = choices(state)
      guard var byte = choices.randomElement(using: &generator) else { return nil }
      if text.count > patience || Int.random(in: 0..<3, using: &generator) == 0 {
        byte = [0x22, 0x7d, 0x5d, 0x6e].first { choices.contains($0) } ?? byte
      }
      guard let next = advance(state, [byte]) else { return nil }
      state = next
      text.append(byte)
    }
    return nil
  }
}
