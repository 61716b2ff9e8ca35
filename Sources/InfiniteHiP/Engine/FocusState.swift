// SPDX-License-Identifier: Apache-2.0

package import HiPAttention

/// Where an answer attends: to the passages that its question, and now and then one of its own tokens, drew on.
package struct FocusState: Sendable, Hashable {
  /// The passages; nil: everywhere.
  package private(set) var passages: Passages?
  private var question: PassageVotes?
  /// What question and answer drew on so far, the most first.
  package private(set) var drawn: [ReadPassage] = []
  /// Tokens decoded since the question.
  private var decodedCount = 0

  package init() {}

  /// Attends everywhere.
  package mutating func clear() { self = FocusState() }

  /// Attends to what a question drew on; everywhere where it drew on nothing.
  package mutating func begin(with votes: PassageVotes, _ focus: Focus, end: Int) {
    self = FocusState()
    let best = votes.best(keep: focus.keep, end: end)
    guard !best.starts.isEmpty else { return }
    question = votes
    passages = best
    note(votes, end: end)
  }

  /// Whether the next decoded token is to be probed first.
  package func isProbeDue(_ focus: Focus) -> Bool {
    passages != nil && (decodedCount + 1) % focus.refreshInterval == 0
  }

  /// Gives half of the room to what a token of the answer drew on.
  package mutating func refresh(with votes: PassageVotes, _ focus: Focus, end: Int) {
    guard let question else { return }
    let half = focus.keep / focus.passage / 2 * focus.passage
    passages = question.best(keep: focus.keep - half, end: end)
      .joined(with: votes.best(keep: half, end: end))
    note(votes, end: end)
  }

  private mutating func note(_ votes: PassageVotes, end: Int) {
    var shares: [Range<Int>: Float] = [:]
    for passage in drawn { shares[passage.tokens] = passage.share }
    for (tokens, share) in votes.ranked(16, end: end) {
      shares[tokens] = max(shares[tokens] ?? 0, min(1, share))
    }
    drawn = shares.map { ReadPassage(tokens: $0.key, share: $0.value) }.sorted {
      $0.share != $1.share ? $0.share > $1.share : $0.tokens.lowerBound < $1.tokens.lowerBound
    }
    if drawn.count > 16 { drawn.removeLast(drawn.count - 16) }
  }

  /// Counts a token of the answer.
  package mutating func countDecoded() { if passages != nil { decodedCount += 1 } }
}
