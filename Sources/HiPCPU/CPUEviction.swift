// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute

extension CPUBackend {
  /// Attention under H2O: blocks of queries one after the other, since each decides what the next one
  /// still finds; key-value heads side by side.
  func attendEvicting(_ call: AttendCall, _ hitters: HeavyHitters, _ state: CPUSelectionState) {
    let shape = call.input.shape
    if state.kept.isEmpty {
      let all = (0..<Int32(call.input.start)).map { HeavyHitters.KeptKey(key: $0, mass: 0) }
      state.kept = .init(repeating: all, count: shape.kvHeads)
    }
    let work = AttentionWork(call)
    let rotations = rotations(call.input.rotary, count: work.positionLimit)
    for block in 0..<work.blockCount {
      var kept = state.kept
      kept.withUnsafeMutableBufferPointer { kept in
        // Each item writes its own head's element.
        nonisolated(unsafe) let kept = kept
        pool.run(shape.kvHeads) { kvHead, thread in
          let job = work.job(block * work.headSets + kvHead)
          kept[kvHead] = hitters.evict(
            attend(job, kept[kvHead], call, rotations, thread: thread), end: job.near.upperBound)
        }
      }
      state.kept = kept
    }
  }

  /// Writes a job's output and returns its keys with what they drew added.
  private func attend(
    _ job: AttentionJob, _ kept: [HeavyHitters.KeptKey], _ call: AttendCall, _ rotations: Rotations,
    thread: Int
  ) -> [HeavyHitters.KeptKey] {
    let size = job.input.shape.headSize
    let rows = job.rowCount
    let panel = Int(HIP_PANEL)
    let memory = TileMemory(job, rotations, scratch(thread))
    var state = hip_softmax(maximum: memory.maximum, sum: memory.sum, output: memory.output)
    foldTiles(0..<job.tileCount, of: job, rotations, memory, &state)
    var weighed = kept + job.near.map { HeavyHitters.KeptKey(key: Int32($0), mass: 0) }
    let shares = (0..<rows).map { 1 / state.sum[$0] }
    table.softmax_finish(&state, rows, size)
    write(state.output, of: job, to: call)
    // A second pass over the tiles, now that the rows' sums are known. Folding changes the state no
    // more where the maxima stay, and leaves the weights.
    let cache = job.input.cache
    let layout = unsafeDowncast(cache.pages, to: CPUPageTable.self).store.layout
    let keyOffset = layout.keyOffset(
      layer: cache.layer, kvHead: job.heads.lowerBound / job.input.shape.groupSize)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: panel) { masses in
      guard let masses = masses.baseAddress else { return }
      var place = 0
      for tile in 0..<job.tileCount {
        let count = job.tile(tile).count
        job.fillTile(tile, memory, memory.indices)
        withRows(cache, offset: keyOffset) { keys in
          score(tile, of: job, rotations, memory, memory.indices, &keys, values: nil)
        }
        table.softmax_fold(memory.scores, rows, count, memory.first, memory.last, size, &state)
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
    return weighed
  }
}
