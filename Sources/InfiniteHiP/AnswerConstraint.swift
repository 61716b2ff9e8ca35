// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import HiPCompute
internal import HiPGrammar
internal import HiPTokenization
internal import Synchronization

/// What an answer must look like: a grammar over the vocabulary of one model.
///
/// Made by `LanguageModel.constraint`; any number of requests can share it, and what is found out about a state
/// of the grammar serves all of them.
public struct AnswerConstraint: Sendable, Hashable {
  let matcher: GrammarMatcher
  let vocabulary: TokenTrie

  init(_ grammar: Grammar, vocabulary: TokenTrie) {
    matcher = GrammarMatcher(grammar)
    self.vocabulary = vocabulary
  }

  /// The same constraint.
  public static func == (left: AnswerConstraint, right: AnswerConstraint) -> Bool {
    left.matcher === right.matcher
  }

  /// By identity.
  public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(matcher)) }
}

/// An answer under a constraint: where its grammar stands, and which tokens can follow.
struct ConstrainedText: Sendable {
  private let constraint: AnswerConstraint
  private let endTokens: Set<TokenID>
  /// Nil where the text has left the grammar, which no allowed token leads to.
  private var state: GrammarMatcher.State?
  /// Tokens that can come next.
  private(set) var filter: TokenFilter

  init(_ constraint: AnswerConstraint, endTokens: Set<TokenID>) {
    self.constraint = constraint
    self.endTokens = endTokens
    let start = constraint.matcher.start
    state = start
    filter = TokenFilter(GrammarTokens(constraint, start, endTokens))
  }

  /// Whether nothing can follow.
  var isComplete: Bool { state.map { constraint.matcher.isComplete($0) } ?? true }

  /// Goes on by the bytes of a token, and begins to look for those that can follow.
  mutating func append(_ bytes: [UInt8]) {
    guard let before = state, !bytes.isEmpty else { return }
    state = constraint.matcher.advance(before, bytes)
    guard let state, !isComplete else { return }
    filter = TokenFilter(GrammarTokens(constraint, state, endTokens))
  }
}

/// The tokens that can follow in a state of a grammar, found on another thread while the device computes.
private final class GrammarTokens: TokenFilterSource {
  private let found = Mutex<[UInt64]>([])
  private let work = DispatchGroup()

  init(_ constraint: AnswerConstraint, _ state: GrammarMatcher.State, _ endTokens: Set<TokenID>) {
    work.enter()
    DispatchQueue.global(qos: .userInitiated).async { [self] in
      var mask = constraint.matcher.mask(state, over: constraint.vocabulary)
      if constraint.matcher.isAccepting(state) { for token in endTokens { mask.insert(token) } }
      found.withLock { $0 = mask.words }
      work.leave()
    }
  }

  func words() -> [UInt64] {
    work.wait()
    return found.withLock { $0 }
  }
}
