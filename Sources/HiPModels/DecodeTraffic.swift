// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute

extension KVLayout {
  /// Bytes of keys, values and sketches that a token at `depth` has to read, in all layers, on the mean over
  /// the tokens between two refreshes.
  ///
  /// What bandwidth allows at best. Refresh intervals should divide each other.
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
        let perHead =
          pruning.isDense(layer: layer, of: layerCount)
          ? depth * 2 * rowByteCount
          : bytesRead(
            byTokenAt: depth, pruning.applied(toLayer: layer, of: layerCount).fine, stages)
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
    func halvings(_ size: Int) -> Int { Int.bitWidth - max(1, size).leadingZeroBitCount }
    // A stage is due when it or one before it is.
    var interval = stages == .all ? 1 : Int.max
    for stage in pruning.stages {
      let chunks = candidates / stage.chunkSize
      let before = interval
      interval = min(interval, stage.refreshInterval)
      var scored = 0
      switch stage.estimate {
      case .moments:
        scored = chunks * groupByteCount(.moments(chunkSize: stage.chunkSize)) / Self.groupSize
      case .fourBit: scored = candidates * groupByteCount(.fourBit) / Self.groupSize
      case .exact: scored = candidates * rowByteCount
      // Two probes a halving, of every chunk or of every branch that is kept.
      case .halving: scored = chunks * 2 * halvings(stage.chunkSize) * rowByteCount
      case .tree:
        scored = 2 * stage.keep * halvings(candidates / max(1, stage.keep)) * rowByteCount
      }
      bytes += scored / interval
      if pruning.follows, before < .max, let last = pruning.stages.last {
        // Of the steps that begin with this stage: as many blocks behind the last selection.
        let steps = 1 / Double(interval) - 1 / Double(before)
        bytes += Int(Double(scored) / Double(max(1, candidates)) * Double(last.keep) * steps)
      }
      candidates = stage.keptChunks(of: chunks) * stage.chunkSize
    }
    return bytes
  }
}
