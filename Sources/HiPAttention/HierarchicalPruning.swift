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
  public let pruningPositions: PositionScheme
  /// Which key of a half the halving search scores, and what it makes of its path.
  public let halving: HalvingRule
  /// Positions of queries and keys in the attention over what was selected.
  public let attentionPositions: PositionScheme
  /// Where questions and the beginnings of answers attend; nil: everywhere.
  public internal(set) var focus: Focus?
  /// Layers that deviate.
  public let exceptions: [LayerException]

  /// Checks the parts against each other and stores them.
  public init(
    reach: StreamingWindow, queryBlock: Int = 64, stages: [PruningStage],
    fineStages: [PruningStage]? = nil, scoring: Scoring = Scoring(),
    attentionPositions: PositionScheme = .streaming,
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
    halving = scoring.halving
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
    public var positions: PositionScheme
    /// Which key of a half the halving search scores, and what it makes of its path.
    public var halving: HalvingRule

    /// The rules of the published implementation are the defaults.
    public init(
      sharing: HeadSharing = .allHeads, ranking: ChunkRanking = .maximum,
      positions: PositionScheme = .relative, halving: HalvingRule = .implementation
    ) {
      self.sharing = sharing
      self.ranking = ranking
      self.positions = positions
      self.halving = halving
    }
  }

  /// Queries below which a block is unfinished, where such blocks have stages of their own.
  public var unfinishedBlock: Int { fineStages == nil ? queryBlock : max(queryBlock, 64) }

  /// Keys in a selected block: the chunk size of the last stage.
  public var blockSize: Int { stages.last?.chunkSize ?? 1 }

  /// The most keys that a query attends to.
  public var budget: Int { sink + window + (stages.last?.keep ?? 0) }

  /// The most keys that a query attends to in any layer that selects.
  public var largestBudget: Int {
    let kept = [stages.last?.keep, fineStages?.last?.keep] + exceptions.map(\.keep)
    return sink + window + (kept.compactMap { $0 }.max() ?? 0)
  }

  /// The window inside the stages: shorter by one first-stage chunk or one block of queries, so that
  /// no hole opens between the candidates of a block and the windows of its last queries, nor while a
  /// candidate list is reused.
  public var pruningWindow: Int { window - overlap }

  /// Keys that are both candidates and in the window of a block's first query.
  var overlap: Int { max(stages.first?.chunkSize ?? 0, queryBlock) }

  /// Keys by which the first stage's chunks reach into the window of a decoded token: those that leave it while the
  /// list of candidates is reused.
  public var gridReach: Int {
    guard let first = stages.first else { return 0 }
    return (first.refreshInterval + first.chunkSize - 1) / first.chunkSize * first.chunkSize
  }

  /// How far from a stage's first query its last candidate is: nearer than the pruning window where
  /// several blocks share the stage, whose last queries have windows that begin later.
  public func candidateDistance(in stage: PruningStage) -> Int {
    window - max(overlap, queryBlock * stage.queryBlocks)
  }

  /// The least window: no key may be lost between candidates and window.
  var leastWindow: Int {
    guard let first = stages.first else { return 1 }
    return max(window - candidateDistance(in: first), fine.overlap)
  }

  /// What the cache has to keep of the keys for the stages.
  public var sketches: [KeySketch] {
    var sketches: [KeySketch] = []
    for stage in stages + (fineStages ?? []) {
      let sketch: KeySketch? =
        switch stage.estimate {
        case .means: .means(ofKeys: stage.keysPerMean)
        case .fourBit: .fourBit
        case .halving, .exact, .tree: nil
        }
      if let sketch, !sketches.contains(sketch) { sketches.append(sketch) }
    }
    return sketches
  }

  /// The same policy with another sink, window or number of selected keys: of the last stages, and of the focus.
  /// - Throws: when the parts no longer fit together.
  public func changed(
    sink: Int? = nil, window: Int? = nil, keep: Int? = nil, exceptions: [LayerException]? = nil
  ) throws(PolicyError) -> HierarchicalPruning {
    var policy = try HierarchicalPruning(
      reach: StreamingWindow(sink: sink ?? self.sink, window: window ?? self.window),
      queryBlock: queryBlock, stages: stages.keeping(keep),
      fineStages: fineStages.map { $0.keeping(keep) },
      scoring: Scoring(
        sharing: sharing, ranking: ranking, positions: pruningPositions, halving: halving),
      attentionPositions: attentionPositions, exceptions: exceptions ?? self.exceptions)
    policy.focus = focus
    if let keep { policy.focus?.keep = keep }
    if let focus { policy.focus?.answer = min(focus.answer, policy.window) }
    try policy.check()
    return policy
  }

  /// The same policy as layer `layer` of `layerCount` has it.
  public func applied(toLayer layer: Int, of layerCount: Int) -> HierarchicalPruning {
    guard let exception = exceptions.first(where: { $0.applies(to: layer, of: layerCount) }) else {
      return self
    }
    return HierarchicalPruning(
      unchecked: self, stages: stages.keeping(exception.keep),
      fineStages: fineStages.map { $0.keeping(exception.keep) },
      positions: (
        exception.pruningPositions ?? pruningPositions,
        exception.attentionPositions ?? attentionPositions
      ))
  }

  /// Whether layer `layer` of `layerCount` reads every key instead.
  public func isDense(layer: Int, of layerCount: Int) -> Bool {
    exceptions.first { $0.applies(to: layer, of: layerCount) }?.isDense ?? false
  }

  /// The same policy as a call has it whose queries begin at `position`.
  public func resolved(at position: Int) -> HierarchicalPruning {
    HierarchicalPruning(
      unchecked: self, stages: stages.map { $0.resolved(at: position) }, fineStages: fineStages,
      positions: (pruningPositions, attentionPositions))
  }

  /// The same policy as an unfinished block of queries has it.
  public var fine: HierarchicalPruning {
    guard let fineStages else { return self }
    return HierarchicalPruning(
      unchecked: self, queryBlock: unfinishedBlock, stages: fineStages, fineStages: nil,
      positions: (pruningPositions, attentionPositions))
  }

  private init(
    unchecked base: HierarchicalPruning, queryBlock: Int? = nil, stages: [PruningStage],
    fineStages: [PruningStage]?, positions: (pruning: PositionScheme, attention: PositionScheme)
  ) {
    sink = base.sink
    window = base.window
    self.queryBlock = queryBlock ?? base.queryBlock
    self.stages = stages
    self.fineStages = fineStages
    sharing = base.sharing
    ranking = base.ranking
    pruningPositions = positions.pruning
    halving = base.halving
    attentionPositions = positions.attention
    focus = base.focus
    exceptions = []
  }
}

extension [PruningStage] {
  /// The same stages with another number of keys that the last keeps; those between leave as many.
  fileprivate func keeping(_ keep: Int?) -> [PruningStage] {
    guard let keep, let last = indices.last else { return self }
    var stages = self
    stages[last].keep = keep
    if let least = stages[last].proportion?.least {
      stages[last].proportion?.least = Swift.min(least, keep)
    }
    for index in indices.dropFirst().dropLast() {
      let size = stages[index].chunkSize
      let enough = (keep + size - 1) / size * size
      stages[index].keep = Swift.min(Swift.max(stages[index].keep, enough), stages[index - 1].keep)
    }
    return stages
  }
}
