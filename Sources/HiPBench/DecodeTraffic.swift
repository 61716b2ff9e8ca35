// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute

extension KVFormat {
  /// Bytes of keys, values and sketches that a decoded token at `depth` has to load, in all layers, on
  /// the mean over the tokens between two refreshes.
  ///
  /// What bandwidth allows at best; of a text that goes on, where the first tokens of an answer attend to passages and
  /// select nothing. Refresh intervals should divide each other.
  public func bytesRead(
    byTokenAt depth: Int, _ choice: AttentionChoice, trainedLength: Int, stages: Stages = .due
  ) -> Int {
    let heads = layerCount * shape.kvHeads
    let dense = heads * depth * 2 * rowByteCount
    guard depth >= choice.denseLength(trainedLength: trainedLength) else { return dense }
    switch choice.policy {
    case .dense, .stretched: return dense
    case .streaming(let reach):
      return heads * min(depth, reach.sink + reach.window) * 2 * rowByteCount
    case .heavyHitters(let hitters): return heads * min(depth, hitters.budget) * 2 * rowByteCount
    case .hierarchical(let pruning):
      return (0..<layerCount).reduce(0) { sum, layer in
        let layerPolicy = pruning.applied(toLayer: layer, of: layerCount).fine
        let perHead =
          if pruning.isDense(layer: layer, of: layerCount) {
            depth * 2 * rowByteCount
          } else {
            bytesRead(byTokenAt: depth, layerPolicy, stages)
          }
        return sum + shape.kvHeads * perHead
      }
    }
  }

  /// Which stages a token computes.
  public enum Stages: Sendable {
    /// Those that are due, on the mean.
    case due
    case all
  }

  /// Of one head: what the stages score, and what is attended.
  private func bytesRead(
    byTokenAt depth: Int, _ pruning: HierarchicalPruning, _ stages: Stages
  ) -> Int {
    var candidates = max(0, depth - pruning.sink - pruning.window)
    var bytes = min(depth, pruning.budget) * 2 * rowByteCount
    // A stage is due when it or one before it is.
    var interval = stages == .all ? 1 : Int.max
    for stage in pruning.stages {
      let chunks = candidates / stage.chunkSize
      interval = min(interval, stage.refreshInterval)
      bytes += bytesScored(stage, candidates) / interval
      candidates = stage.keptChunks(of: chunks) * stage.chunkSize
    }
    return bytes
  }

  /// What a stage reads to score so many keys of one head.
  private func bytesScored(_ stage: PruningStage, _ candidates: Int) -> Int {
    let chunks = candidates / stage.chunkSize
    func halvings(_ size: Int) -> Int { Int.bitWidth - max(1, size).leadingZeroBitCount }
    return switch stage.estimate {
    case .means:
      candidates / stage.keysPerMean * groupByteCount(.means(ofKeys: stage.keysPerMean))
        / Self.groupSize
    case .fourBit: candidates * groupByteCount(.fourBit) / Self.groupSize
    case .exact: candidates * rowByteCount
    // Two probes a halving, of every chunk or of every branch that is kept.
    case .halving: chunks * 2 * halvings(stage.chunkSize) * rowByteCount
    case .tree: 2 * stage.keep * halvings(candidates / max(1, stage.keep)) * rowByteCount
    }
  }
}
