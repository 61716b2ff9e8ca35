// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute

extension CPUBackend {
  /// The tree search of HiP: first positions of the kept chunks, `[query block][owner]`.
  func searchTree(
    _ call: SelectTask, _ stage: PruningStage, blocks: [Range<Int>], owners: Int
  ) -> [[[Int32]]] {
    let headsPerOwner = call.input.shape.heads / owners
    let rotations = rotations(call.input.rotary, count: positionLimit(call, stage, longest: 0))
    var found = [[Int32]](repeating: [], count: blocks.count * owners)
    found.withUnsafeMutableBufferPointer { found in
      // Each item writes its own element.
      nonisolated(unsafe) let found = found
      pool.runRising(blocks.count * owners) { item, thread in
        let (block, owner) = item.quotientAndRemainder(dividingBy: owners)
        let job = ScoringJob(
          call: call, stage: stage, queries: blocks[block],
          heads: owner * headsPerOwner..<(owner + 1) * headsPerOwner, chunks: [], limit: .max,
          rotations: rotations)
        found[item] = searchTree(job, thread: thread)
      }
    }
    return blocks.indices.map { Array(found[$0 * owners..<($0 + 1) * owners]) }
  }

  private func searchTree(_ job: ScoringJob, thread: Int) -> [Int32] {
    let (scratch, held) = (scratch(thread), heldPages(thread))
    let size = job.stage.chunkSize
    let sink = job.pruning.sink
    let kept = job.stage.keep / size
    let end = job.positions.lowerBound - job.pruning.pruningWindow
    let count = max(0, end - sink) / size
    func start(_ branch: Range<Int>) -> Int32 { Int32(sink + branch.lowerBound * size) }
    guard count > kept else { return (0..<count).map { start($0..<$0 + 1) } }
    let headSize = job.call.input.shape.headSize
    let panel = Int(IHP_PANEL)
    let rows = job.rowCount
    let isThere = scratch.reset(
      Scratch.size(rows * headSize) + 2 * Scratch.size(panel * headSize)
        + Scratch.size(rows * panel) + 3 * Scratch.size(panel)
        + Scratch.size(job.rotations.tileSize))
    guard isThere else { return [] }
    let queries = scratch.take(rows * headSize)
    pool(job, into: queries, position: queryPosition(job, branch: 1))
    let gathered = scratch.take(panel * headSize)
    let keys = scratch.take(panel * headSize)
    let products = scratch.take(rows * panel)
    let best = scratch.take(panel)
    let probes = scratch.takeIntegers(panel)
    let positions = scratch.takeIntegers(panel)
    let tileRotations = scratch.take(job.rotations.tileSize)
    let rotates = keyPosition(job, chunk: 0, key: 0) != nil
    var branches = (0..<kept).map {
      (2 * $0 * count + kept) / (2 * kept)..<(2 * ($0 + 1) * count + kept) / (2 * kept)
    }
    while branches.contains(where: { $0.count > 1 }) {
      var halves: [Range<Int>] = []
      for branch in branches {
        let middle = branch.lowerBound + branch.count / 2
        if branch.count > 1 { halves.append(branch.lowerBound..<middle) }
        halves.append(middle..<branch.upperBound)
      }
      var scores = [Float](repeating: -.infinity, count: halves.count)
      // The keys of the chunk in the middle of each half, 64 keys at a time.
      for first in stride(from: 0, to: halves.count * size, by: panel) {
        let columns = min(panel, halves.count * size - first)
        for column in 0..<columns {
          let (half, inside) = (first + column).quotientAndRemainder(dividingBy: size)
          let middle = (halves[half].lowerBound + halves[half].upperBound) / 2
          probes[column] = Int32(sink + middle * size + inside)
          positions[column] = keyPosition(job, chunk: 0, key: probes[column]) ?? 0
        }
        let rotation = rotates ? job.rotations.tile(positions, columns, tileRotations) : nil
        hold(probes, columns, of: job, held)
        withKeys(job, held) { keyRows in
          table.pack_keys(
            keyRows, probes, columns, headSize, rotation,
            job.rotations.half, positions, gathered, keys)
        }
        table.gemm(IHP_F32, queries, headSize, rows, keys, headSize, products, panel, panel, 0)
        table.column_max(products, panel, rows, panel, best)
        for column in 0..<columns {
          let half = (first + column) / size
          scores[half] = max(scores[half], best[column])
        }
      }
      branches = scores.withUnsafeBufferPointer { indicesOfLargest(kept, of: $0) }
        .map { halves[$0] }
    }
    held.release()
    return branches.map(start)
  }
}
