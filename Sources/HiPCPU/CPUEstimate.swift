// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
public import HiPCompute

extension CPUBackend {
  /// Scratch memory of the threads, and rotation tables.
  public func estimate(_ use: SequenceUse) -> Int {
    let shape = use.format.shape
    var scratch = 0
    var scores = 0
    if case .hierarchical(let pruning) = use.policy {
      let rows = shape.groupSize * pruning.unfinishedBlock
      for stages in [pruning.stages, pruning.fineStages ?? []] {
        for (index, stage) in stages.enumerated() {
          var keys = index == 0 ? use.length : min(use.length, stages[index - 1].keep)
          if index == stages.count - 1, let focus = pruning.focus {
            keys = max(keys, min(use.length, focus.keep))
          }
          let columns = stage.estimate == .means ? keys / Self.keysPerMean : keys
          scores = max(scores, keys / stage.chunkSize)
          switch stage.estimate {
          case .halving, .tree: break
          case .means, .fourBit:
            scratch = max(
              scratch,
              rankScratchSize(
                .means([]), rowCount: rows, columns: columns, headSize: shape.headSize))
          case .exact:
            // The keys of a block of queries are packed besides.
            scratch = max(
              scratch,
              columns * (shape.headSize * table.coarse_bytes / 4 + 1)
                + rankScratchSize(
                  .means([]), rowCount: rows, columns: columns, headSize: shape.headSize))
          }
        }
      }
    }
    // The tiles of a block of queries of all heads of a group.
    let tiles = shape.groupSize * 64 * (3 * shape.headSize + 68) + 192 * shape.headSize
    // The panels of a product with weights.
    let panels =
      table.product_columns * table.product_depth * productBytes / MemoryLayout<Float>.size
    // Scratch memory grows by a quarter more than is needed.
    let floats = (max(scratch, tiles, panels) + scores) * pool.threadCount * 5 / 4
    let rotated = max(
      8192, min(rotatedLength(use), RotationTable.rowLimit + use.length / RotationTable.rowLimit))
    return 4 * (floats + rotated * shape.headSize)
  }

  /// Positions up to which rotations are kept.
  private func rotatedLength(_ use: SequenceUse) -> Int {
    switch use.policy {
    case .stretched: return use.length
    case .hierarchical(let pruning):
      let schemes =
        [pruning.pruningPositions, pruning.attentionPositions]
        + pruning.exceptions.flatMap { [$0.pruningPositions, $0.attentionPositions] }
        .compactMap { $0 }
      if schemes.contains(where: { $0.needsTrainedLength || $0 == .absolute }) { return use.length }
      // As far as the trained length, which is dense where that is said.
      if use.denseLength == 0, schemes.contains(.spread) { return use.length }
    case .dense, .streaming, .heavyHitters: break
    }
    return min(use.length, use.denseLength)
  }
}
