// SPDX-License-Identifier: Apache-2.0

package import HiPAttention

/// Where an answer attends: at first to the passages that its question drew on.
package struct FocusState: Sendable, Hashable {
  /// The passages; nil: everywhere.
  package private(set) var passages: Passages?
  /// What the question drew on, the most first.
  package private(set) var drawn: [ReadPassage] = []
  /// Tokens of the answer that go on attending to the passages.
  private var remaining = 0

  package init() {}

  /// Attends everywhere.
  package mutating func clear() { self = FocusState() }

  /// Attends to what a question drew on; everywhere where it drew on nothing.
  package mutating func begin(with votes: PassageVotes, _ focus: Focus, end: Int) {
    self = FocusState()
    let best = votes.best(keep: focus.keep, end: end)
    guard !best.starts.isEmpty else { return }
    passages = best
    remaining = focus.answer
    drawn = votes.ranked(16, end: end).map {
      ReadPassage(tokens: $0.tokens, share: min(1, $0.votes))
    }
  }

  /// Counts a token of the answer; behind the last one that attends to passages it is everywhere again.
  package mutating func countDecoded() {
    remaining = max(0, remaining - 1)
    if remaining == 0 { passages = nil }
  }
}
