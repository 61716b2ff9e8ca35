// SPDX-License-Identifier: Apache-2.0

// Beyond the trained length a text holds many times more keys that resemble the one that is asked for than a
// model has learnt to tell apart: an answer finds its place, begins right, and goes over into another
// one, since every layer and token chooses anew. Which passages a question is about, the layer that looks
// them up for all of it tells reliably; so these are found first, and the question is computed again, and
// answered, with nothing else far away in sight.

/// Where an answer attends: to the passages that its question has drawn on most.
///
/// The last tokens of a prompt are computed twice. First, as a probe, they attend everywhere, and the blocks
/// that they select, in each layer, vote with their shares of softmax mass for the passages they lie in. Then they, and the first
/// tokens that are decoded after them, select among the keys of the best passages only. What is written after that is
/// less an answer than a text that goes on, and selects from all that was read.
public struct Focus: Sendable, Hashable {
  /// Keys in a passage.
  public var passage: Int
  /// Keys in all passages together; all are attended where they are no more than the last stage keeps.
  public var keep: Int
  /// Decoded tokens that attend to the passages; those that follow select from the whole text.
  public var answer: Int

  /// Stores the parts; `HierarchicalPruning` checks them.
  public init(passage: Int, keep: Int, answer: Int) {
    self.passage = passage
    self.keep = keep
    self.answer = answer
  }
}

/// Runs of keys that a selection is restricted to.
public struct Passages: Sendable, Hashable {
  /// First positions, ascending.
  public let starts: [Int32]
  /// Keys in each.
  public let size: Int

  /// Stores the parts.
  public init(starts: [Int32], size: Int) {
    self.starts = starts
    self.size = size
  }

  /// First positions of the chunks in them.
  public func chunks(of chunkSize: Int) -> [Int32] {
    starts.flatMap { start in
      stride(from: start, to: start + Int32(size), by: chunkSize)
    }
  }
}

/// How much a question drew on each passage of a text: as much as the selection did, of any layer and heads,
/// that drew on it most.
///
/// Few heads of few layers look for what is asked; the sum over all would drown them.
public struct PassageVotes: Sendable, Hashable {
  private let size: Int
  private let sink: Int
  /// Per passage, counted from the end of the sink.
  private var votes: [Float] = []

  /// No votes yet, for passages of a policy that focuses.
  public init(_ focus: Focus, sink: Int) {
    size = focus.passage
    self.sink = sink
  }

  /// Counts one selection: first positions of its blocks, ascending, and the shares of softmax mass that they
  /// hold.
  public mutating func count(_ blocks: [Int32], shares: [Float]) {
    guard let last = blocks.last else { return }
    let passages = (Int(last) - sink) / size + 1
    var drawn = [Float](repeating: 0, count: passages)
    for (start, share) in zip(blocks, shares) { drawn[(Int(start) - sink) / size] += share }
    votes += [Float](repeating: 0, count: max(0, passages - votes.count))
    for (passage, share) in drawn.enumerated() { votes[passage] = max(votes[passage], share) }
  }

  /// The passages with the most votes, each with the one behind it, where what begins in it may go on.
  /// - Parameters:
  ///   - keep: the most keys in all of them.
  ///   - end: passages end before it.
  public func best(keep: Int, end: Int) -> Passages {
    let count = max(0, end - sink) / size
    var chosen: Set<Int> = []
    for passage in order(of: count) {
      for place in [passage, passage + 1] where place < count && chosen.count < keep / size {
        chosen.insert(place)
      }
    }
    return Passages(starts: chosen.sorted().map { Int32(sink + $0 * size) }, size: size)
  }

  /// The passages with the most votes, that end before `end`: positions and votes.
  public func ranked(_ limit: Int, end: Int) -> [(tokens: Range<Int>, votes: Float)] {
    order(of: max(0, end - sink) / size).prefix(limit).map { passage in
      let start = sink + passage * size
      return (start..<start + size, votes[passage])
    }
  }

  /// Passages with votes among the first `count`, those with the most first.
  private func order(of count: Int) -> [Int] {
    votes.indices.filter { votes[$0] > 0 && $0 < count }
      .sorted { votes[$0] != votes[$1] ? votes[$0] > votes[$1] : $0 < $1 }
  }
}

extension HierarchicalPruning {
  /// The same policy with answers that attend to what their question drew on, or everywhere.
  /// - Throws: when passages and stages do not fit together.
  public func focusing(_ focus: Focus?) throws(PolicyError) -> HierarchicalPruning {
    var policy = self
    policy.focus = focus
    try policy.check()
    return policy
  }

  /// The focus of a question that begins at `position`; nil where the candidates are no more than it
  /// would leave, or than the last stage keeps of all.
  public func focus(at position: Int) -> Focus? {
    guard let focus else { return nil }
    let enough = max(focus.keep, fine.stages.last?.keep ?? 0)
    return position - fine.pruningWindow - sink > enough ? focus : nil
  }
}
