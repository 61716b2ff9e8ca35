// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
internal import HiPCompute
internal import HiPModels
public import HiPTokenization
public import InfiniteHiP
internal import Synchronization

/// How much of the far softmax mass selections hold, on the real activations of a model.
///
/// Far keys lie between sink and window. Their mass is that of dense attention among them, all at one
/// distance (the `infllm` positions), where a model beyond its trained length still works. Queries
/// and heads count equally. The best possible selection of as many blocks per key-value head (or per
/// head, where a policy selects per head) is measured beside each policy's.
public struct SelectionRecall: Sendable {
  private let choices: [AttentionChoice]

  /// Measures these policies, all on the activations of one reading.
  public init(of choices: [AttentionChoice]) { self.choices = choices }

  /// Reads `tokens` under `attention` and measures every policy in the last `blocks` blocks of 64
  /// queries.
  /// - Complexity: the reading, and per block and layer the exact scores of all keys twice.
  public func measure(
    _ model: LanguageModel, reading tokens: [TokenID], attention: AttentionChoice, blocks: Int,
    progress: @escaping @Sendable (_ read: Int, _ of: Int) -> Void = { _, _ in }
  ) async throws -> [RecallResult] {
    let session = try await model.makeSession(
      attention: attention, alsoSketching: choices.map(\.policy))
    let sums = Mutex([Tally](repeating: Tally(model.architecture.layerCount), count: choices.count))
    let choices = choices
    let layerCount = model.architecture.layerCount
    try await session.read(
      tokens, observing: 64 * blocks,
      observe: { observation in
        for (index, choice) in choices.enumerated() {
          let found = Self.find(choice.policy, observation, layerCount: layerCount)
          sums.withLock { $0[index].add(found, layer: observation.layer) }
        }
      }, progress: progress)
    return sums.withLock { sums in
      zip(choices, sums).map { choice, tally in tally.result(choice.name, length: tokens.count) }
    }
  }

  /// Sums over blocks of queries and owners of selections.
  private struct Tally {
    var found: [Found]

    init(_ layerCount: Int) { found = .init(repeating: Found(), count: layerCount) }

    mutating func add(_ more: Found, layer: Int) {
      found[layer].count += more.count
      found[layer].share += more.share
      found[layer].best += more.best
      found[layer].top += more.top
      found[layer].keys += more.keys
    }

    func result(_ name: String, length: Int) -> RecallResult {
      let keys = found.reduce(0) { $0 + $1.keys } / max(1, found.reduce(0) { $0 + $1.count })
      // Layers that a policy reads densely, and any without far keys, say nothing.
      let layers = found.enumerated().filter { $0.element.count > 0 }.map { layer, found in
        RecallResult.Layer(
          layer: layer, massShare: found.share / found.count, bestShare: found.best / found.count,
          topBlocks: found.top / found.count)
      }
      return RecallResult(policy: name, length: length, keys: keys, layers: layers)
    }
  }

  private struct Found {
    var count = 0.0
    var share = 0.0
    var best = 0.0
    var top = 0.0
    var keys = 0.0
  }

  private static func find(
    _ policy: AttentionPolicy, _ observation: LayerObservation, layerCount: Int
  ) -> Found {
    guard case .hierarchical(let whole) = policy,
      !whole.isDense(layer: observation.layer, of: layerCount)
    else { return Found() }
    let pruning = whole.applied(toLayer: observation.layer, of: layerCount)
    let shape = observation.input.shape
    let layer = observation.layer
    /// A selection of its own, which the sequence goes on without.
    func select(
      _ pruning: HierarchicalPruning, _ report: SelectCall.Report
    ) -> any SelectionState {
      let state = observation.store.makeSelectionState()
      let item = SelectCall.Item(
        input: observation.input, pruning: pruning, state: state, report: report)
      observation.backend.select(SelectCall(layer: layer, batch: [item]))
      return state
    }
    let selection = select(pruning, .nothing).download(
      layer: layer, shape: shape, pruning: pruning)
    guard let shares = try? exactShares(pruning) else { return Found() }
    let owners = shares.sharing == .head ? shape.heads : shape.kvHeads
    let headsPerOwner = shape.heads / owners
    let scores = select(shares, .scores).scores(layer: layer)
    var found = Found()
    for (item, chunks) in scores.enumerated() {
      let (block, owner) = item.quotientAndRemainder(dividingBy: owners)
      judge(
        selection.blocks[owner * headsPerOwner][block], of: selection.blockSize, chunks, &found)
    }
    return found
  }

  /// The policy that scores every block by the exact sum of its shares.
  private static func exactShares(_ pruning: HierarchicalPruning) throws -> HierarchicalPruning {
    try HierarchicalPruning(
      reach: StreamingWindow(sink: pruning.sink, window: pruning.window),
      queryBlock: pruning.queryBlock,
      stages: [
        PruningStage(
          chunkSize: pruning.blockSize, keep: pruning.blockSize, estimate: .exact)
      ],
      scoring: .init(
        sharing: pruning.sharing == .head ? .head : .group, ranking: .share, positions: .infllm))
  }

  private static func judge(
    _ selected: [Int32], of blockSize: Int, _ chunks: ChunkScores, _ found: inout Found
  ) {
    let active = chunks.scores.indices.filter { chunks.scores[$0] >= 0 }
    let total = active.reduce(0.0) { $0 + Double(chunks.scores[$1]) }
    guard total > 0, let first = chunks.starts.first else { return }
    found.count += 1
    let order = active.sorted { chunks.scores[$0] > chunks.scores[$1] }
    let best = order.prefix(selected.count)
    let kept = Set(selected.map { (Int($0) - Int(first)) / blockSize }.filter { $0 < active.count })
    func mass(_ indices: some Sequence<Int>) -> Double {
      indices.reduce(0.0) { $0 + Double(chunks.scores[$1]) } / total
    }
    found.share += mass(kept)
    found.best += mass(best)
    found.top +=
      best.isEmpty ? 0 : Double(best.count { kept.contains($0) }) / Double(best.count)
    found.keys += Double(selected.count * blockSize)
  }
}
