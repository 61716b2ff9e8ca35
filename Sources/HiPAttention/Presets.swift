// SPDX-License-Identifier: Apache-2.0

extension AttentionChoice {
  /// Every choice that has a name of its own; the first is the default.
  public static let presets: [AttentionChoice] = [
    AttentionChoice(
      name: "auto", policy: .hierarchical(.infiniteHiP), dense: .withinTrainedLength),
    AttentionChoice(name: "dense", policy: .dense),
    AttentionChoice(name: "dense-linear", policy: .stretched(.linear(factor: 8))),
    AttentionChoice(name: "dense-ntk", policy: .stretched(.ntk(factor: 8))),
    AttentionChoice(name: "dense-dynamic", policy: .stretched(.dynamic)),
    AttentionChoice(name: "streaming", policy: .streaming(.standard)),
    AttentionChoice(name: "h2o", policy: .heavyHitters(.standard)),
    AttentionChoice(name: "hip", policy: .hierarchical(.hip)),
    AttentionChoice(name: "infinitehip", policy: .hierarchical(.infiniteHiP)),
    AttentionChoice(name: "infinitehip-3k", policy: .hierarchical(.paper3K)),
    AttentionChoice(name: "infinitehip-3k-fast", policy: .hierarchical(.paper3KFast)),
    AttentionChoice(name: "infinitehip-3k-flash", policy: .hierarchical(.paper3KFlash)),
    AttentionChoice(name: "infinitehip-5k", policy: .hierarchical(.paper5K)),
  ]

  /// Dense within the trained length, our selection beyond it.
  public static let automatic = presets[0]

  /// Our selection as GPUs compute it fastest where nothing is rotated: one layer of attention.
  public static let gpu = AttentionChoice(
    name: "infinitehip-gpu", policy: .hierarchical(.infiniteHiPForGPUs))

  /// The choice of that name.
  public static func named(_ name: String) -> AttentionChoice? {
    (presets + [gpu]).first { $0.name == name }
  }
}

extension StreamingWindow {
  /// As many keys as the paper's presets attend to: sink 256, window 3,072.
  public static let standard = StreamingWindow(unchecked: 256, window: 3072)

  private init(unchecked sink: Int, window: Int) {
    self.sink = sink
    self.window = window
  }
}

extension HeavyHitters {
  /// As many keys as the paper's presets attend to, half recent, half heavy.
  public static let standard = HeavyHitters(unchecked: 1664, heavy: 1664)
}

extension HierarchicalPruning {
  /// Our selection, described in Docs/Decisions 0005 to 0018 and 0023.
  ///
  /// A scan over means of keys by the means of 4 queries, for 64 of them, from 128K tokens on by the means of 16, for
  /// 256; then exact scores inside the best for each 32, both ranked by their share of every query's softmax mass, per
  /// key-value head. What is selected stands in proportion to where it does in the text.
  /// The end of a text, where questions stand and single keys matter, goes from the means to exact scores,
  /// and the answer's first tokens attend to the passages that it drew on; later ones scan the text once in 64.
  public static let infiniteHiP: HierarchicalPruning = {
    var scan = PruningStage(
      chunkSize: 8, keep: 16384, proportion: .init(share: 0.125, least: 12288), queryStride: 16,
      estimate: .means)
    scan.queryBlocks = 8
    scan.sharedFrom = 1 << 17
    var policy = HierarchicalPruning(
      unchecked: [
        scan, PruningStage(chunkSize: 8, keep: 1408, queryStride: 2, estimate: .exact),
      ],
      fineStages: [
        PruningStage(chunkSize: 8, keep: 32768, refreshInterval: 64, estimate: .means),
        PruningStage(chunkSize: 8, keep: 8192, refreshInterval: 16, estimate: .exact),
        PruningStage(chunkSize: 8, keep: 2048, refreshInterval: 4, estimate: .exact),
      ],
      scoring: Scoring(sharing: .group, ranking: .share, positions: .infllm),
      frame: Frame(sink: 64, window: 1152, queryBlock: 32, attentionPositions: .spread))
    policy.focus = Focus(passage: 64, keep: 2048, answer: 64)
    return policy
  }()

  /// Our selection where scanning costs bytes and products of matrices are cheap (Docs/Decisions/0017): means of 32 keys,
  /// 1/64 of the keys' bytes, then exact scores of what they leave, in blocks of 16.
  public static let infiniteHiPForGPUs: HierarchicalPruning = {
    var scan = PruningStage(chunkSize: 32, keep: 25600, estimate: .means)
    scan.keysPerMean = 32
    var shared = scan
    (shared.queryStride, shared.queryBlocks) = (64, 4)
    return HierarchicalPruning(
      unchecked: [
        shared, PruningStage(chunkSize: 16, keep: 2048, queryStride: 8, estimate: .exact),
      ],
      fineStages: [scan, PruningStage(chunkSize: 16, keep: 2048, estimate: .exact)],
      scoring: Scoring(sharing: .group, ranking: .share, positions: .infllm),
      frame: Frame(attentionPositions: .spread))
  }()

  /// The 3K preset of the paper (appendix A): 256 + 2,048 + 1,024 keys, 4,096 selected ones and
  /// chunk-indexed pruning in the first three layers, refresh every 16, 8 and 4 steps.
  public static let paper3K = paper(chunks: (256, 32, 8), keep: (8192, 2048), refresh: (16, 8, 4))

  /// The 3K preset with masks that are kept twice as long.
  public static let paper3KFast = paper(
    chunks: (256, 32, 8), keep: (8192, 2048), refresh: (32, 16, 8))

  /// The 3K preset with masks that are kept longest: 96, 24 and 8 steps, as the appendix says (the
  /// paper's table 4 fits 96, 32 and 8 better).
  public static let paper3KFlash = paper(
    chunks: (256, 32, 8), keep: (8192, 2048), refresh: (96, 24, 8))

  /// The 5K preset of the paper: 4,096 selected keys in every layer.
  public static let paper5K = paper(
    chunks: (64, 32, 16), keep: (16384, 4096), refresh: (16, 8, 4))

  /// A preset of the paper, with the paper's rules where the implementation differs: halves stand
  /// for their first key, a chunk scores what its last key scores, every query counts by itself.
  private static func paper(
    chunks: (Int, Int, Int), keep: (Int, Int), refresh: (Int, Int, Int)
  ) -> HierarchicalPruning {
    HierarchicalPruning(
      unchecked: [
        PruningStage(chunkSize: chunks.0, keep: 32768, refreshInterval: refresh.0),
        PruningStage(chunkSize: chunks.1, keep: keep.0, refreshInterval: refresh.1),
        PruningStage(chunkSize: chunks.2, keep: keep.1, refreshInterval: refresh.2),
      ],
      scoring: Scoring(halving: .paper),
      exceptions: [
        LayerException(
          layers: [0, 1, 2], .selection(keep: 4096, pruningPositions: .chunkIndexed))
      ])
  }

  /// HiP (arXiv 2406.09827): 512 keys in blocks of 2 for every 32 queries of a head, found by the
  /// tree search; the first three layers dense, everything at its true position, refresh every 8
  /// steps.
  public static let hip = HierarchicalPruning(
    unchecked: [
      PruningStage(chunkSize: 2, keep: 512, refreshInterval: 8, queryStride: 1, estimate: .tree)
    ],
    scoring: Scoring(sharing: .head, positions: .absolute),
    exceptions: [LayerException(layers: [0, 1, 2], .dense)],
    frame: Frame(sink: 16, window: 256, queryBlock: 32, attentionPositions: .absolute))

  /// What presets have around their stages.
  private struct Frame {
    var sink = 256
    var window = 1024
    var queryBlock = 64
    var attentionPositions = PositionScheme.streaming
  }

  /// A preset, unless told otherwise with sink 256 and window 1,024.
  ///
  /// The tests check every preset as `init` would.
  private init(
    unchecked stages: [PruningStage], fineStages: [PruningStage]? = nil, scoring: Scoring,
    exceptions: [LayerException] = [], frame: Frame = Frame()
  ) {
    sink = frame.sink
    window = frame.window
    queryBlock = frame.queryBlock
    self.stages = stages
    self.fineStages = fineStages
    sharing = scoring.sharing
    ranking = scoring.ranking
    pruningPositions = scoring.positions
    halving = scoring.halving
    attentionPositions = frame.attentionPositions
    self.exceptions = exceptions
  }
}
