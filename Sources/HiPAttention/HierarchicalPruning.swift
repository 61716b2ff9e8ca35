// SPDX-License-Identifier: Apache-2.0

/// Selection of key blocks in stages, each narrowing what the one before kept (arXiv 2502.08910,
/// section 3).
public struct HierarchicalPruning: Sendable, Hashable {
  /// Number of first positions that are always attended.
  public let sink: Int
  /// Number of last positions that are always attended, the query's own included.
  public let window: Int
  /// Neighbouring queries that share one selection.
  public let queryBlock: Int
  /// The stages, coarse to fine; with none, only sink and window are attended.
  public let stages: [PruningStage]
  /// The stages of an unfinished block of queries, where they differ.
  ///
  /// Such blocks are single tokens in decoding and the end of a text, where questions stand: few
  /// queries, that afford a finer search and need it most.
  public let fineStages: [PruningStage]?
  /// Which query heads share one selection.
  public let sharing: HeadSharing
  /// How the chunks of a stage are compared.
  public let ranking: ChunkRanking
  /// Positions of queries and keys while chunks are scored.
  public let pruningPositions: PruningPositions
  /// Positions of queries and keys in the attention over what was selected.
  public let attentionPositions: AttentionPositions
  /// Layers that deviate.
  public let exceptions: [LayerException]

  /// Checks the parts against each other and stores them.
  public init(
    reach: StreamingWindow, queryBlock: Int = 64, stages: [PruningStage],
    fineStages: [PruningStage]? = nil, scoring: Scoring = Scoring(),
    attentionPositions: AttentionPositions = .streaming,
    exceptions: [LayerException] = []
  ) throws(PolicyError) {
    sink = reach.sink
    window = reach.window
    self.queryBlock = queryBlock
    self.stages = stages
    self.fineStages = fineStages
    sharing = scoring.sharing
    ranking = scoring.ranking
    pruningPositions = scoring.positions
    self.attentionPositions = attentionPositions
    self.exceptions = exceptions
    try check()
  }

  /// How chunks are scored: by which positions, compared how, and for which heads together.
  public struct Scoring: Sendable, Hashable {
    /// Which heads share a selection.
    public var sharing: HeadSharing
    /// How chunks are compared.
    public var ranking: ChunkRanking
    /// Positions while chunks are scored.
    public var positions: PruningPositions

    /// The published rules are the defaults.
    public init(
      sharing: HeadSharing = .allHeads, ranking: ChunkRanking = .maximum,
      positions: PruningPositions = .relative
    ) {
      self.sharing = sharing
      self.ranking = ranking
      self.positions = positions
    }
  }

  /// Keys in a selected block: the chunk size of the last stage.
  public var blockSize: Int { stages.last?.chunkSize ?? 1 }

  /// The most keys that a query attends to.
  public var budget: Int { sink + window + (stages.last?.keep ?? 0) }

  /// The window inside the stages: shorter by one first-stage chunk or one block of queries, so that
  /// no hole opens between the candidates of a block and the windows of its last queries, nor while a
  /// candidate list is reused.
  public var pruningWindow: Int { window - overlap }

  /// Keys that are both candidates and in the window of a block's first query.
  var overlap: Int { max(stages.first?.chunkSize ?? 0, queryBlock) }

  /// Chunk sizes whose key moments the cache has to keep.
  public var sketchChunkSizes: [Int] {
    var sizes: [Int] = []
    for stage in stages + (fineStages ?? [])
    where stage.estimate == .moments && !sizes.contains(stage.chunkSize) {
      sizes.append(stage.chunkSize)
    }
    return sizes
  }

  /// The same policy as layer `layer` of `layerCount` has it.
  public func applied(toLayer layer: Int, of layerCount: Int) -> HierarchicalPruning {
    guard let exception = exceptions.first(where: { $0.applies(to: layer, of: layerCount) }) else {
      return self
    }
    func adjusted(_ stages: [PruningStage]) -> [PruningStage] {
      var stages = stages
      if let keep = exception.keep, !stages.isEmpty { stages[stages.count - 1].keep = keep }
      return stages
    }
    return HierarchicalPruning(
      unchecked: self, stages: adjusted(stages), fineStages: fineStages.map(adjusted),
      positions: exception.pruningPositions ?? pruningPositions)
  }

  /// The same policy as an unfinished block of queries has it.
  public var fine: HierarchicalPruning {
    guard let fineStages else { return self }
    return HierarchicalPruning(
      unchecked: self, stages: fineStages, fineStages: nil, positions: pruningPositions)
  }

  private init(
    unchecked base: HierarchicalPruning, stages: [PruningStage], fineStages: [PruningStage]?,
    positions: PruningPositions
  ) {
    sink = base.sink
    window = base.window
    queryBlock = base.queryBlock
    self.stages = stages
    self.fineStages = fineStages
    sharing = base.sharing
    ranking = base.ranking
    pruningPositions = positions
    attentionPositions = base.attentionPositions
    exceptions = []
  }
}

/// One stage of pruning: cut the candidates into chunks, score them, keep the best.
public struct PruningStage: Sendable, Hashable {
  /// Keys in a chunk.
  public var chunkSize: Int
  /// Keys that stay candidates after the stage; the last stage's are attended.
  public var keep: Int
  /// Decoding steps after which the stage is computed anew.
  public var refreshInterval: Int
  /// Neighbouring queries that are averaged before scoring.
  public var queryStride: Int
  /// How a chunk's score comes about.
  public var estimate: ChunkEstimate

  /// Stores the parts; `HierarchicalPruning` checks them.
  public init(
    chunkSize: Int, keep: Int, refreshInterval: Int = 1, queryStride: Int = 1,
    estimate: ChunkEstimate = .halving
  ) {
    self.chunkSize = chunkSize
    self.keep = keep
    self.refreshInterval = refreshInterval
    self.queryStride = queryStride
    self.estimate = estimate
  }
}

/// How a chunk of keys is scored against a query.
public enum ChunkEstimate: String, Sendable, Hashable, CaseIterable {
  /// Binary search for the best key: probe the middle of either half, go into the better one
  /// (SelectRep of InfiniteHiP). Reads 2 (log2 chunk + 1) keys.
  case halving
  /// Log of the chunk's softmax mass, estimated from the mean and the variance of its keys:
  /// q·mean + Σ q² variance / 2. Reads a sketch of 2 / chunk of the keys.
  case moments
  /// Every key of the chunk.
  case exact
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

/// Positions of queries and keys while chunks are scored (algorithm: 2.2, 2.3 of the paper's
/// appendix).
///
/// Without rotary embedding none of them does anything.
public enum PruningPositions: String, Sendable, Hashable, CaseIterable {
  /// Query at the pruning window + 1, keys of a left half at 0, of a right half at 1.
  case relative
  /// Query at most one past the number of chunks plus the window, keys at their chunk's index.
  case chunkIndexed = "chunk-indexed"
  /// Query at the pruning window, keys at 0.
  case infllm
  /// Everything at its true position.
  case absolute
}

/// Positions of queries and keys in the attention over sink, selection and window.
public enum AttentionPositions: String, Sendable, Hashable, CaseIterable {
  /// The window at its true positions, sink and selected keys moved up to directly before it.
  case streaming
  /// Everything at its true position.
  case absolute
}

/// What some layers do differently.
public struct LayerException: Sendable, Hashable {
  /// The layers, counted from 0; negative ones from the last layer, -1.
  public let layers: [Int]
  /// Keys that the last stage keeps there.
  public let keep: Int?
  /// Positions while chunks are scored there.
  public let pruningPositions: PruningPositions?

  /// Stores the parts; `HierarchicalPruning` checks them.
  public init(layers: [Int], keep: Int? = nil, pruningPositions: PruningPositions? = nil) {
    self.layers = layers
    self.keep = keep
    self.pruningPositions = pruningPositions
  }

  func applies(to layer: Int, of layerCount: Int) -> Bool {
    layers.contains(layer) || layers.contains(layer - layerCount)
  }
}
