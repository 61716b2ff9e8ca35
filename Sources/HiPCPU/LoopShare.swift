// SPDX-License-Identifier: Apache-2.0

/// Consecutive items of a loop that nobody has claimed: one word, so that its owner and those that steal from it
/// claim by compare-and-exchange.
///
/// The owner claims from the end and thieves from the start: they meet once, and neighbours stay together.
package struct LoopShare: Hashable, Sendable {
  /// The most items that a loop may have.
  package static var limit: Int { Int(UInt32.max) }

  package let word: UInt64

  package init(word: UInt64) { self.word = word }

  /// What `thread` of `threads` begins with: the same of every loop of that length.
  package init(ofThread thread: Int, of threads: Int, items count: Int) {
    self.init(count * thread / threads, count * (thread + 1) / threads)
  }

  private init(_ first: Int, _ end: Int) { word = UInt64(first) << 32 | UInt64(end) }

  /// The item at `place` where a loop's items are dealt out like cards, the last first and to and fro, so that shares
  /// come to the same though items cost more the later they are; each share ascends.
  package static func dealt(_ place: Int, of count: Int, to threads: Int) -> Int {
    let rounds = count / threads
    let thread = ((place + 1) * threads - 1) / count
    let first = count * thread / threads
    let round = count * (thread + 1) / threads - 1 - place
    let seat = round % 2 == 0 ? thread : threads - 1 - thread
    // The last round is for those whose share is longer; so many come before this one.
    let rank = round * threads + (round < rounds ? seat : first - rounds * thread)
    return count - 1 - rank
  }

  package var first: Int { Int(word >> 32) }
  package var end: Int { Int(word & 0xffff_ffff) }
  package var isEmpty: Bool { first >= end }

  /// An item and what is then left; nil when all are claimed.
  package func claim(byOwner isOwner: Bool) -> (item: Int, rest: LoopShare)? {
    guard !isEmpty else { return nil }
    return isOwner
      ? (end - 1, LoopShare(first, end - 1)) : (first, LoopShare(first + 1, end))
  }
}

/// A thread's way through a loop: its own share, then what the others have left, one neighbour after the other.
///
/// Shares never grow during a loop, so one visit to each suffices.
package struct LoopWalk {
  package let thread: Int
  package let threads: Int
  private var distance = 0

  package init(thread: Int, of threads: Int) {
    self.thread = thread
    self.threads = threads
  }

  /// The next item of a share that has one; `claim` takes it, or says that none is left.
  package mutating func next(
    _ claim: (_ owner: Int, _ isOwner: Bool) -> Int?
  ) -> (item: Int, owner: Int)? {
    while distance < threads {
      let place = thread + distance
      let owner = place < threads ? place : place - threads
      if let item = claim(owner, distance == 0) { return (item, owner) }
      distance += 1
    }
    return nil
  }
}
