// SPDX-License-Identifier: Apache-2.0

/// One stage of pruning: cut the candidates into chunks, score them, keep the best.
public struct PruningStage: Sendable, Hashable {
  /// Keys in a chunk.
  public var chunkSize: Int
  /// Keys that stay candidates after the stage; the last stage's are attended.
  public var keep: Int
  /// Keeps fewer than `keep` of few candidates.
  public var proportion: Proportion?
  /// Decoding steps after which the stage is computed anew.
  public var refreshInterval: Int
  /// Of so many neighbouring queries one is scored: the last one where every key of a chunk is, else their mean.
  public var queryStride: Int
  /// Neighbouring blocks of queries that share what the stage keeps; only ever of the first stage.
  public var queryBlocks = 1
  /// Position from which on they do; before it a quarter of them, at least one, and as many times fewer queries are one.
  public var sharedFrom = 0
  /// How a chunk's score comes about.
  public var estimate: ChunkEstimate
  /// Keys that a mean stands for, under `means`.
  public var keysPerMean = EightBitMean.defaultKeyCount

  /// Stores the parts; `HierarchicalPruning` checks them.
  public init(
    chunkSize: Int, keep: Int, proportion: Proportion? = nil, refreshInterval: Int = 1,
    queryStride: Int = 1, estimate: ChunkEstimate = .halving
  ) {
    self.chunkSize = chunkSize
    self.keep = keep
    self.proportion = proportion
    self.refreshInterval = refreshInterval
    self.queryStride = queryStride
    self.estimate = estimate
  }

  /// Whether neighbouring queries are averaged.
  ///
  /// The mean of two queries finds what both want a little; what one of them wants, which single keys tell, it misses.
  public var averagesQueries: Bool { estimate != .exact && estimate != .fourBit }

  /// The stage as it is for queries from `position` on.
  public func resolved(at position: Int) -> PruningStage {
    var stage = self
    stage.sharedFrom = 0
    guard position < sharedFrom else { return stage }
    stage.queryBlocks = max(1, queryBlocks / 4)
    stage.queryStride = max(1, queryStride * stage.queryBlocks / queryBlocks)
    return stage
  }

  /// A share of the candidates, and the least number of keys that stay whatever the share.
  public struct Proportion: Sendable, Hashable {
    /// From 0 to 1.
    public var share: Double
    /// Keys.
    public var least: Int

    /// Stores the parts.
    public init(share: Double, least: Int) {
      self.share = share
      self.least = least
    }
  }

  /// How many chunks stay of `count` that take part.
  public func keptChunks(of count: Int) -> Int {
    let most = min(count, keep / chunkSize)
    guard let proportion else { return most }
    let share = Int((Double(count) * proportion.share).rounded(.up))
    return min(most, max(share, proportion.least / chunkSize))
  }
}

/// How a chunk of keys is scored against a query.
public enum ChunkEstimate: String, Sendable, Hashable, CaseIterable {
  /// Binary search for the best key: probe either half, go into the better one (SelectRep of
  /// InfiniteHiP). Reads 2 (log2 chunk + 1) keys.
  case halving
  /// The softmax mass of a chunk as the means of its parts have it, each of `keysPerMean` keys. Reads a sketch of a
  /// byte an element and mean.
  case means
  /// Every key of the chunk.
  case exact
  /// Every key of the chunk as a copy in 4 bits has it: a quarter of the bytes of 16-bit keys.
  case fourBit = "4-bit"
  /// Top-k search of HiP (arXiv 2406.09827): `keep / chunk` equal parts of the candidates are halved
  /// again and again, judged by the chunk in the middle of each half, and as many halves stay, until
  /// each is one chunk. Only ever the single stage.
  case tree
}

/// How chunk scores of several queries and heads are put together.
public enum ChunkRanking: String, Sendable, Hashable, CaseIterable {
  /// The largest raw score of any query of any sharing head (the published rule).
  case maximum
  /// The sum, over queries and sharing heads, of the chunk's share of that query's softmax mass
  /// over all candidates: no head or query outweighs the others by the norm of its vectors.
  case share
}

/// Which query heads share one selection.
public enum HeadSharing: String, Sendable, Hashable, CaseIterable {
  case allHeads = "all-heads"
  /// The query heads of one key-value head.
  case group
  case head
}

/// What the paper and the published implementation of the halving search do differently
/// (arXiv 2502.08910, algorithms 2 and 3).
public struct HalvingRule: Sendable, Hashable {
  /// The key that stands for a half.
  public var representative: Representative
  /// What the search's path is worth.
  public var score: Score

  /// Stores the parts.
  public init(representative: Representative, score: Score) {
    self.representative = representative
    self.score = score
  }

  /// The key that stands for a half.
  public enum Representative: String, Sendable, Hashable, CaseIterable {
    /// The one in its middle (the implementation).
    case midpoint
    /// Its first one (the paper).
    case first
  }

  /// What the search's path is worth.
  public enum Score: String, Sendable, Hashable, CaseIterable {
    /// The best of all probes (the implementation).
    case path
    /// The key that remains, seen as a right half is (the paper).
    case final
  }

  /// The rules of the published implementation.
  public static let implementation = HalvingRule(representative: .midpoint, score: .path)
  /// The rules of the paper.
  public static let paper = HalvingRule(representative: .first, score: .final)
}
