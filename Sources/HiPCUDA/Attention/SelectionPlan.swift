// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPAttention
internal import HiPCompute

/// A selection as the tuned kernels make it: means of 32 keys are scanned, in chunks of one or two of them, then the keys
/// of the best chunks are scored one by one, in blocks.
package struct SelectionPlan: Sendable, Hashable {
  /// First positions that are not selected from: a multiple of 64.
  package let sink: Int
  package let window: Int
  package let coarse: Stage
  package let fine: Stage
  /// Blocks of queries that scan together.
  package let sharedBlocks: Int
  /// Neighbouring queries whose mean scans.
  package let scanStride: Int
  /// Of so many neighbouring queries the last one scores keys.
  package let fineStride: Int

  /// One of the stages, in chunks of its own size.
  package struct Stage: Sendable, Hashable {
    package let chunkKeys: Int
    /// The most that stay.
    package let keep: Int
    /// Of n candidates min(keep, max(least, share n)) stay.
    package let least: Int
    package let share: Double
    /// How far before the first of the queries that share the stage the last candidate begins.
    package let distance: Int
  }

  /// The plan of a policy, resolved for its queries (`resolved(at:)`, and `fine` for decoding); nil: the tuned kernels
  /// do not have it.
  ///
  /// Neither positions are looked at (keys are scored as they are stored, which is what every scheme says where nothing
  /// is rotated) nor who shares: the heads of a key-value head do.
  package init?(_ pruning: HierarchicalPruning) {
    guard pruning.stages.count == 2, pruning.ranking == .share,
      pruning.queryBlock == QueryRun.blockSize, pruning.sink % PagedKeys.pageSize == 0
    else { return nil }
    let (first, second) = (pruning.stages[0], pruning.stages[1])
    guard first.estimate == .means, first.keysPerMean == PagedKeys.keysPerMean,
      [32, 64].contains(first.chunkSize), second.estimate == .exact,
      [8, 16, 32, 64].contains(second.chunkSize), second.chunkSize <= first.chunkSize,
      second.queryBlocks == 1, first.refreshInterval <= first.chunkSize
    else { return nil }
    sink = pruning.sink
    window = pruning.window
    coarse = Stage(first, distance: pruning.candidateDistance(in: first))
    fine = Stage(second, distance: pruning.candidateDistance(in: second))
    sharedBlocks = first.queryBlocks
    scanStride = first.queryStride
    fineStride = second.queryStride
    // What lists of the kernels can count.
    guard coarse.keep < 2048, fine.keep < 2048 else { return nil }
  }

  /// Blocks of the last stage in a chunk of the first.
  var blocksPerChunk: Int { coarse.chunkKeys / fine.chunkKeys }

  /// The position before which chunks begin that take part, for queries that end before `end`.
  func gridEnd(queriesBefore end: Int, _ grid: SelectCall.GridLength) -> Int {
    let length =
      switch grid {
      // One chunk more than fits, as on the CPU.
      case .ownBlock: end + coarse.chunkKeys
      case .fixed(let length): length
      }
    return sink + max(0, length - sink - window).rounded(upTo: coarse.chunkKeys)
  }
}

extension SelectionPlan.Stage {
  fileprivate init(_ stage: PruningStage, distance: Int) {
    chunkKeys = stage.chunkSize
    keep = stage.keep / stage.chunkSize
    least = stage.proportion.map { $0.least / stage.chunkSize } ?? keep
    share = stage.proportion?.share ?? 0
    self.distance = distance
  }

  /// As the kernels have it.
  /// - Parameter least: the distance is no less.
  func parameters(distanceAtLeast least: Int = 0) -> ihp_stage {
    ihp_stage(
      share: share, keep: Int32(clamping: keep), least: Int32(clamping: self.least),
      distance: Int32(clamping: max(distance, least)), padding: 0)
  }
}
