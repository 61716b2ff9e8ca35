// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute

extension KVLayout {
  /// Bytes of keys, values and sketches that a token at `depth` has to read, in all layers: what
  /// bandwidth allows at best. Stages that are due every few steps count as if they were due always.
  public func bytesRead(
    byTokenAt depth: Int, _ choice: AttentionChoice, trainedLength: Int
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
      let fine = pruning.fine
      var candidates = max(0, depth - fine.sink - fine.window)
      var perHead = 0
      for stage in fine.stages {
        switch stage.estimate {
        case .moments:
          perHead +=
            candidates / stage.chunkSize
            * (groupByteCount(.moments(chunkSize: stage.chunkSize)) / Self.groupSize)
        case .fourBit: perHead += candidates * groupByteCount(.fourBit) / Self.groupSize
        case .exact: perHead += candidates * rowByteCount
        case .halving, .tree:
          // Two probes a halving.
          let halvings = Int.bitWidth - max(1, stage.chunkSize).leadingZeroBitCount
          perHead += candidates / stage.chunkSize * 2 * halvings * rowByteCount
        }
        candidates = stage.keptChunks(of: candidates / stage.chunkSize) * stage.chunkSize
      }
      return heads * (perHead + min(depth, fine.budget) * 2 * rowByteCount)
    }
  }
}
