// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute

extension CPUBackend {
  /// Attention under H2O: blocks of queries one after the other, since each decides what the next one
  /// still finds; key-value heads side by side.
  func attendEvicting(
    _ item: AttendCall.Item, layer: Int, _ hitters: HeavyHitters, _ state: CPUHeavyHitterState
  ) {
    let shape = item.input.shape
    if state.kept[layer].isEmpty {
      let all = (0..<Int32(item.input.start)).map { HeavyHitters.KeptKey(key: $0, mass: 0) }
      state.kept[layer] = .init(repeating: all, count: shape.kvHeads)
    }
    let work = AttentionWork(item, layer: layer, on: self)
    for block in 0..<work.blockCount {
      var kept = state.kept[layer]
      kept.withUnsafeMutableBufferPointer { kept in
        // Each item writes its own head's element.
        nonisolated(unsafe) let kept = kept
        pool.run(shape.kvHeads) { kvHead, thread in
          let job = work.job(block * work.headSets + kvHead)
          kept[kvHead] = hitters.evict(
            attend(job, kept[kvHead], work, thread: thread), end: job.near.upperBound)
        }
      }
      state.kept[layer] = kept
    }
  }

  /// Writes a job's output and returns its keys with what they drew added.
  private func attend(
    _ job: AttentionJob, _ kept: [HeavyHitters.KeptKey], _ work: AttentionWork, thread: Int
  ) -> [HeavyHitters.KeptKey] {
    let (size, rotations) = (job.headSize, work.rotations)
    let rows = job.rowCount
    let panel = Int(IHP_PANEL)
    guard let memory = TileMemory(job, rotations, scratch(thread)) else { return kept }
    var state = ihp_softmax(maximum: memory.maximum, sum: memory.sum, output: memory.output)
    let held = heldPages(thread)
    foldTiles(0..<job.tileCount, of: job, rotations, memory, held, &state)
    var weighed = kept + job.near.map { HeavyHitters.KeptKey(key: Int32($0), mass: 0) }
    addSinks(to: &state, of: job)
    let shares = (0..<rows).map { 1 / state.sum[$0] }
    table.softmax_finish(&state, rows, size)
    write(state.output, of: job, to: work.output)
    // A second pass over the tiles, now that the rows' sums are known. Folding changes the state no
    // more where the maxima stay, and leaves the weights.
    withUnsafeTemporaryAllocation(of: Float.self, capacity: panel) { masses in
      guard let masses = masses.baseAddress else { return }
      var place = 0
      for tile in 0..<job.tileCount {
        let count = job.tile(tile).count
        job.fillKeys(tile, memory.indices)
        job.fillTile(tile, memory, memory.indices)
        job.hold(tile..<tile + 1, [.keys], held)
        job.input.blocks.withRows(.keys, layer: job.layer, kvHead: job.kvHead, held) { keys in
          score(tile, of: job, rotations, memory, memory.indices, keys)
        }
        table.softmax_fold(
          memory.scores, rows, count, memory.first, memory.last, size, IHP_F32, &state)
        masses.update(repeating: 0, count: panel)
        for row in 0..<rows {
          for column in 0..<panel {
            masses[column] += shares[row] * memory.scores[row * panel + column]
          }
        }
        for column in 0..<count { weighed[place + column].mass += masses[column] }
        place += count
      }
    }
    held.release()
    return weighed
  }
}
