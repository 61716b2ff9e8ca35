// SPDX-License-Identifier: Apache-2.0

extension AttentionChoice {
  /// Every choice that has a name of its own; the first is the default.
  public static let presets: [AttentionChoice] = [
    AttentionChoice(
      name: "auto", policy: .hierarchical(.infiniteHiP), dense: .withinTrainedLength),
    AttentionChoice(name: "dense", policy: .dense),
    AttentionChoice(name: "streaming", policy: .streaming(.standard)),
    AttentionChoice(name: "infinitehip", policy: .hierarchical(.infiniteHiP)),
    AttentionChoice(name: "infinitehip-3k", policy: .hierarchical(.infiniteHiP3K)),
  ]

  /// Dense within the trained length, our selection beyond it.
  public static let automatic = presets[0]

  /// The choice of that name.
  public static func named(_ name: String) -> AttentionChoice? {
    presets.first { $0.name == name }
  }
}

extension StreamingWindow {
  /// As many keys as the hierarchical presets attend to: sink 256, window 3,072.
  public static let standard = StreamingWindow(unchecked: 256, window: 3072)

  private init(unchecked sink: Int, window: Int) {
    self.sink = sink
    self.window = window
  }
}

extension HierarchicalPruning {
  /// Our selection, described in Docs/Decisions/0004.
  ///
  /// Scans over the moments of 64-key, then of 16-key chunks, then exact scores inside the best, all
  /// ranked by their share of every query's softmax mass, per key-value head. Decoding and the end of
  /// a text scan the 16-key chunks at once.
  public static let infiniteHiP = HierarchicalPruning(
    unchecked: [
      PruningStage(chunkSize: 64, keep: 32768, queryStride: 4, estimate: .moments),
      PruningStage(chunkSize: 16, keep: 4096, queryStride: 2, estimate: .moments),
      PruningStage(chunkSize: 8, keep: 2048, queryStride: 2, estimate: .exact),
    ],
    fineStages: [
      PruningStage(chunkSize: 16, keep: 8192, estimate: .moments),
      PruningStage(chunkSize: 8, keep: 2048, estimate: .exact),
    ],
    scoring: Scoring(sharing: .group, ranking: .share, positions: .infllm))

  /// The 3K preset of the paper (appendix A): 256 + 2,048 + 1,024 keys, 4,096 selected ones and
  /// chunk-indexed pruning in the first three layers, refresh every 16, 8 and 4 steps.
  public static let infiniteHiP3K = HierarchicalPruning(
    unchecked: [
      PruningStage(chunkSize: 256, keep: 32768, refreshInterval: 16, queryStride: 4),
      PruningStage(chunkSize: 32, keep: 8192, refreshInterval: 8, queryStride: 4),
      PruningStage(chunkSize: 8, keep: 2048, refreshInterval: 4),
    ],
    scoring: Scoring(),
    exceptions: [
      LayerException(layers: [0, 1, 2], keep: 4096, pruningPositions: .chunkIndexed)
    ])

  /// A preset: sink 256, window 1,024.
  ///
  /// The tests check every preset as `init` would.
  private init(
    unchecked stages: [PruningStage], fineStages: [PruningStage]? = nil, scoring: Scoring,
    exceptions: [LayerException] = []
  ) {
    sink = 256
    window = 1024
    queryBlock = 64
    self.stages = stages
    self.fineStages = fineStages
    sharing = scoring.sharing
    ranking = scoring.ranking
    pruningPositions = scoring.positions
    attentionPositions = .streaming
    self.exceptions = exceptions
  }
}
