// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
public import HiPCompute

extension CPUBackend {
  /// Splits the call into jobs, one per block of queries and set of heads that read the same keys,
  /// and long key lists of few jobs further into parts that are merged afterwards (split-K).
  public func attend(_ call: AttendCall) {
    let shape = call.input.shape
    let work = AttentionWork(call)
    let rotations = rotations(call.input.rotary, count: work.positionLimit)
    let jobs = work.blockCount * work.headSets
    let parts = work.partCount(jobs: jobs, threads: pool.threadCount)
    guard parts > 1 else {
      pool.run(jobs) { job, thread in
        // The pool starts with the last blocks; they reach the most keys, which evens out the end.
        attendPart(work.job(job), part: 0, of: 1, rotations, thread: thread) { state, rows in
          table.softmax_finish(&state, rows, shape.headSize)
          write(state.output, of: work.job(job), to: call)
        }
      }
      return
    }
    let rows = work.largestRowCount
    let partSize = Scratch.size(rows) * 2 + Scratch.size(rows * shape.headSize)
    partials.reset(partSize * parts * jobs)
    let memory = partials.take(partSize * parts * jobs)
    func state(_ job: Int, _ part: Int) -> hip_softmax {
      let start = memory + (job * parts + part) * partSize
      return hip_softmax(
        maximum: start, sum: start + Scratch.size(rows), output: start + 2 * Scratch.size(rows))
    }
    pool.run(jobs * parts) { item, thread in
      let (job, part) = item.quotientAndRemainder(dividingBy: parts)
      attendPart(work.job(job), part: part, of: parts, rotations, thread: thread) { partial, rows in
        let kept = state(job, part)
        kept.maximum.update(from: partial.maximum, count: rows)
        kept.sum.update(from: partial.sum, count: rows)
        kept.output.update(from: partial.output, count: rows * shape.headSize)
      }
    }
    pool.run(jobs) { index, _ in
      let job = work.job(index)
      var merged = state(index, 0)
      for part in 1..<parts {
        var next = state(index, part)
        table.softmax_merge(&merged, &next, job.rowCount, shape.headSize)
      }
      table.softmax_finish(&merged, job.rowCount, shape.headSize)
      write(merged.output, of: job, to: call)
    }
  }

  /// Queries up to which keys are scored row by row instead of being transposed into panels.
  static var fewRows: Int { 8 }

  /// Runs one part of a job's key tiles and hands the softmax state on, before its memory is reused.
  private func attendPart(
    _ job: AttentionJob, part: Int, of parts: Int, _ rotations: Rotations, thread: Int,
    then use: (inout hip_softmax, Int) -> Void
  ) {
    let shape = job.input.shape
    let size = shape.headSize
    let rows = job.rowCount
    let panel = Int(HIP_PANEL)
    let scratch = scratch(thread)
    scratch.reset(
      2 * Scratch.size(rows) + 3 * Scratch.size(rows * size) + Scratch.size(rows * panel)
        + 3 * Scratch.size(panel * size) + 2 * Scratch.size(rows) + 2 * Scratch.size(panel))
    var state = hip_softmax(
      maximum: scratch.take(rows), sum: scratch.take(rows), output: scratch.take(rows * size))
    state.maximum.update(repeating: -.infinity, count: rows)
    state.sum.update(repeating: 0, count: rows)
    state.output.update(repeating: 0, count: rows * size)
    let near = scratch.take(rows * size)
    let far = scratch.take(rows * size)
    let scores = scratch.take(rows * panel)
    let keys = scratch.take(panel * size)
    let values = scratch.take(panel * size)
    let gathered = scratch.take(panel * size)
    let first = scratch.takeIntegers(rows)
    let last = scratch.takeIntegers(rows)
    let indices = scratch.takeIntegers(panel)
    let positions = scratch.takeIntegers(panel)
    loadQueries(job, rotations, into: near) { $0 - job.nearBase }
    if !job.far.isEmpty { loadQueries(job, rotations, into: far, at: job.farPosition) }

    let layout = unsafeDowncast(job.input.cache.pages, to: CPUPageTable.self).store.layout
    let layer = job.input.cache.layer
    let kvHead = job.heads.lowerBound / shape.groupSize
    let farTiles = (job.far.count + panel - 1) / panel
    let tiles = farTiles + (job.near.count + panel - 1) / panel
    withRows(job.input.cache, offset: layout.keyOffset(layer: layer, kvHead: kvHead)) { keyRows in
      withRows(job.input.cache, offset: layout.valueOffset(layer: layer, kvHead: kvHead)) {
        valueRows in
        for tile in tiles * part / parts..<tiles * (part + 1) / parts {
          let isFar = tile < farTiles
          let count = job.fillTile(
            isFar ? tile : tile - farTiles, far: isFar, indices: indices, positions: positions,
            first: first, last: last)
          if rows <= Self.fewRows {
            table.gather_keys(
              &keyRows, indices, count, size, rotations.table, rotations.half, positions, keys)
            table.score_rows(isFar ? far : near, rows, keys, size, scores, panel)
          } else {
            table.pack_keys(
              &keyRows, indices, count, size, rotations.table, rotations.half, positions, gathered,
              keys)
            table.gemm(isFar ? far : near, size, rows, keys, panel, size, scores, panel, panel, 0)
          }
          table.gather(&valueRows, indices, count, size, values)
          table.softmax_fold(scores, rows, count, first, last, size, &state)
          for column in stride(from: 0, to: size, by: panel) {
            table.gemm(
              scores, panel, rows, values + column, size, count, state.output + column, size,
              min(panel, size - column), 1)
          }
        }
      }
    }
    use(&state, rows)
  }

  /// Copies a job's queries, head by head, scaled and turned to the positions that they appear at.
  private func loadQueries(
    _ job: AttentionJob, _ rotations: Rotations, into rows: UnsafeMutablePointer<Float>,
    at position: (Int) -> Int
  ) {
    let size = job.input.shape.headSize
    var row = 0
    for head in job.heads {
      for query in job.queries {
        table.rotate(
          job.input.queries.floats(row: query) + head * size,
          rotations.row(position(job.input.start + query)), rotations.half, size,
          job.input.shape.scale, rows + row * size)
        row += 1
      }
    }
  }

  private func write(
    _ rows: UnsafeMutablePointer<Float>, of job: AttentionJob, to call: AttendCall
  ) {
    let size = job.input.shape.headSize
    var row = 0
    for head in job.heads {
      for query in job.queries {
        (call.output.floats(row: query) + head * size).update(from: rows + row * size, count: size)
        row += 1
      }
    }
  }
}
