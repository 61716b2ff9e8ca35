// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Follows texts through a grammar, for all requests that share the grammar and the vocabulary.
///
/// States are made when they are first reached, and stay: at most `stateLimit` of them, and fewer
/// where their tables would take more than 256 MiB, or where patterns are so ambiguous that states
/// hold thousands of places each. Beyond that, no text goes on to a new state: `advance` yields nil
/// and masks leave out what would lead there.
public final class GrammarMatcher: Sendable {
  /// How far a text has come; of use only with the matcher that made it.
  public struct State: Hashable, Sendable {
    let number: Int32
  }

  /// The largest number of states.
  public static let stateLimit = 1_000_000

  /// The state before any text.
  public let start: State
  private let memory: Mutex<MatcherMemory>

  /// Starts with no state but the first.
  public init(_ grammar: Grammar) {
    let states = LazyStates(grammar.automaton, stateLimit: Self.stateLimit)
    start = State(number: states.start)
    memory = Mutex(MatcherMemory(states: states))
  }

  /// The state behind some bytes; nil where the grammar has no text that goes on so.
  public func advance(_ state: State, _ bytes: some Sequence<UInt8>) -> State? {
    let bytes = Array(bytes)
    return memory.withLock { memory in
      guard memory.states.contains(state.number) else { return nil }
      var number = state.number
      for byte in bytes {
        number = memory.states.step(number, byte)
        if number < 0 { return nil }
      }
      return State(number: number)
    }
  }

  /// Whether the text may end here.
  public func isAccepting(_ state: State) -> Bool {
    memory.withLock { $0.states.contains(state.number) && $0.states.isAccepting(state.number) }
  }

  /// Whether the text must end here.
  public func isComplete(_ state: State) -> Bool {
    memory.withLock { $0.states.contains(state.number) && $0.states.isComplete(state.number) }
  }

  /// The tokens whose bytes may come next; whether the text may end is `isAccepting`.
  ///
  /// The masks of the states asked for last are kept, for one vocabulary at a time.
  public func mask(_ state: State, over trie: TokenTrie) -> TokenMask {
    memory.withLock { memory in
      guard memory.states.contains(state.number) else {
        return TokenMask(tokenCount: trie.tokenCount)
      }
      return memory.mask(state.number, over: trie)
    }
  }
}

/// What a matcher has found so far.
private struct MatcherMemory: Sendable {
  private static let maskLimit = 64

  var states: LazyStates
  private var masks: [Int32: (mask: TokenMask, lastUse: Int)] = [:]
  private var useCount = 0
  private var trie: TokenTrie?

  init(states: LazyStates) { self.states = states }

  mutating func mask(_ state: Int32, over trie: TokenTrie) -> TokenMask {
    if self.trie !== trie {
      masks = [:]
      self.trie = trie
    }
    useCount += 1
    let mask =
      masks[state]?.mask ?? trie.mask(from: state) { states.step($0, $1) }
    masks[state] = (mask, useCount)
    if masks.count > Self.maskLimit,
      let oldest = masks.min(by: { $0.value.lastUse < $1.value.lastUse })
    {
      masks[oldest.key] = nil
    }
    return mask
  }
}
