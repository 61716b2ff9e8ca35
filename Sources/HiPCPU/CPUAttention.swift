// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
public import HiPCompute

extension CPUBackend {
  /// Splits the call into jobs, one per block of queries and set of heads that read the same keys,
  /// and long key lists of few jobs further into parts that are merged afterwards (split-K).
  public func attend(_ call: AttendCall) {
    if case .heavyHitters(let hitters, let state) = call.reach {
      attendEvicting(call, hitters, unsafeDowncast(state, to: CPUSelectionState.self))
      return
    }
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
    let prepared = (0..<jobs).map { work.job($0) }
    pool.run(jobs * parts) { item, thread in
      let (job, part) = item.quotientAndRemainder(dividingBy: parts)
      attendPart(prepared[job], part: part, of: parts, rotations, thread: thread) { partial, rows in
        let kept = state(job, part)
        kept.maximum.update(from: partial.maximum, count: rows)
        kept.sum.update(from: partial.sum, count: rows)
        kept.output.update(from: partial.output, count: rows * shape.headSize)
      }
    }
    pool.run(jobs) { index, _ in
      let job = prepared[index]
      var merged = state(index, 0)
      for part in 1..<parts {
        // Sharpened scores are put together before others join them.
        if part == job.sharpParts(of: parts) { anchor(&merged, of: job) }
        var next = state(index, part)
        table.softmax_merge(&merged, &next, job.rowCount, shape.headSize)
      }
      table.softmax_finish(&merged, job.rowCount, shape.headSize)
      write(merged.output, of: job, to: call)
    }
  }

  /// Runs one part of a job's key tiles and hands the softmax state on, before its memory is reused.
  private func attendPart(
    _ job: AttentionJob, part: Int, of parts: Int, _ rotations: Rotations, thread: Int,
    then use: (inout hip_softmax, Int) -> Void
  ) {
    let memory = TileMemory(job, rotations, scratch(thread))
    var state = hip_softmax(
      maximum: memory.maximum, sum: memory.sum, output: memory.output)
    foldTiles(job.part(part, of: parts), of: job, rotations, memory, &state)
    use(&state, job.rowCount)
  }

  /// Ends the sharpened scores of a softmax state: b s becomes m + b (s - m), so that the best key, of
  /// score m, weighs against the others what it would unsharpened.
  private func anchor(_ state: inout hip_softmax, of job: AttentionJob) {
    for row in 0..<job.rowCount { state.maximum[row] /= job.sharpness }
  }

  /// Folds tiles of a job into its softmax state.
  func foldTiles(
    _ tiles: Range<Int>, of job: AttentionJob, _ rotations: Rotations, _ memory: TileMemory,
    _ state: inout hip_softmax
  ) {
    let size = job.input.shape.headSize
    let rows = job.rowCount
    let panel = Int(HIP_PANEL)
    let cache = job.input.cache
    let layout = unsafeDowncast(cache.pages, to: CPUPageTable.self).store.layout
    let kvHead = job.heads.lowerBound / job.input.shape.groupSize
    let isFew = rows <= Self.fewRows
    loadQueries(job, rotations, memory)
    var (indices, next) = (memory.indices, memory.nextIndices)
    if !tiles.isEmpty { job.fillTile(tiles.lowerBound, memory, indices) }
    withRows(cache, offset: layout.keyOffset(layer: cache.layer, kvHead: kvHead)) { keys in
      withRows(cache, offset: layout.valueOffset(layer: cache.layer, kvHead: kvHead)) { values in
        for tile in tiles {
          let count = job.tile(tile).count
          if tile == job.sharpTiles, tile > tiles.lowerBound { anchor(&state, of: job) }
          score(tile, of: job, rotations, memory, indices, &keys, values: isFew ? values : nil)
          if tile < job.sharpTiles {
            for index in 0..<rows * panel { memory.scores[index] *= job.sharpness }
          }
          table.softmax_fold(
            memory.scores, rows, count, memory.first, memory.last, size, &state)
          let isLast = tile + 1 == tiles.upperBound
          if !isLast { job.fillTile(tile + 1, memory, next) }
          if isFew {
            // Keys and values of few queries come from memory: each asks for what is read after it.
            table.add_values(
              &values, indices, count, size, &keys, next, isLast ? 0 : job.tile(tile + 1).count,
              memory.scores, rows, panel, state.output)
          } else {
            table.pack_values(&values, indices, count, size, memory.gathered, memory.values)
            for column in stride(from: 0, to: size, by: panel) {
              table.gemm(
                HIP_F32, memory.scores, panel, rows, memory.values + column * panel, count,
                state.output + column, size, min(panel, size - column), 1)
            }
          }
          swap(&indices, &next)
        }
      }
    }
  }

  /// Scores a tile of keys, whose places have been filled in, by all rows of a job.
  func score(
    _ tile: Int, of job: AttentionJob, _ rotations: Rotations, _ memory: TileMemory,
    _ indices: UnsafeMutablePointer<Int32>, _ keys: inout hip_rows, values: hip_rows?
  ) {
    let size = job.input.shape.headSize
    let rows = job.rowCount
    let panel = Int(HIP_PANEL)
    let (isFar, start, count) = job.tile(tile)
    var turns = UnsafePointer(rotations.table)
    var isBlended = false
    if isFar, let quarters = job.far.quarters, rotations.table != nil {
      memory.blend(quarters[start..<start + count], rotations)
      turns = UnsafePointer(memory.blended)
      isBlended = true
    }
    var queries = isFar ? memory.far : memory.near
    guard rows <= Self.fewRows else {
      table.pack_keys(
        &keys, indices, count, size, turns, rotations.half, memory.positions, memory.gathered,
        memory.keys)
      table.gemm(HIP_F32, queries, size, rows, memory.keys, size, memory.scores, panel, panel, 0)
      return
    }
    if !isBlended {
      queries = rebase(job, count, isFar: isFar, rotations, memory) ?? queries
    }
    func score(_ ahead: UnsafePointer<hip_rows>?) {
      table.score_stored(
        &keys, indices, count, size, turns, rotations.half, memory.positions, ahead,
        memory.gathered, queries, rows, memory.scores, panel)
    }
    if var values { score(&values) } else { score(nil) }
  }

  /// Counts a tile's positions from its first one, and turns the queries back by as much: rotations of
  /// few positions stay in the nearest cache, where those of a long text would be read from memory.
  /// - Returns: the queries; nil when nothing turns, or a query stands before the tile.
  private func rebase(
    _ job: AttentionJob, _ count: Int, isFar: Bool, _ rotations: Rotations, _ memory: TileMemory
  ) -> UnsafeMutablePointer<Float>? {
    guard rotations.table != nil else { return nil }
    var least = memory.positions[0]
    for column in 1..<max(1, count) { least = min(least, memory.positions[column]) }
    let base = Int(least)
    let first = job.input.start + job.queries.lowerBound
    let place = isFar ? job.farPosition : job.nearPosition
    guard base > 0, place(first) >= base else { return nil }
    for column in 0..<count { memory.positions[column] &-= least }
    loadQueries(job, rotations, into: memory.keys) { place($0) - base }
    return memory.keys
  }

  private func loadQueries(_ job: AttentionJob, _ rotations: Rotations, _ memory: TileMemory) {
    loadQueries(job, rotations, into: memory.near, at: job.nearPosition)
    if !job.far.isEmpty { loadQueries(job, rotations, into: memory.far, at: job.farPosition) }
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

  func write(
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

/// What one thread needs to go through a job's tiles.
struct TileMemory {
  /// Softmax state per row.
  let maximum, sum, output: UnsafeMutablePointer<Float>
  /// Queries `[rows, headSize]`, turned towards near and far keys.
  let near, far: UnsafeMutablePointer<Float>
  /// `[rows, 64]`.
  let scores: UnsafeMutablePointer<Float>
  let keys, values, gathered: UnsafeMutablePointer<Float>
  /// Rows of a rotation table of the tile's own.
  let blended: UnsafeMutablePointer<Float>
  let first, last, indices, nextIndices, positions: UnsafeMutablePointer<Int32>

  /// Takes the memory from `scratch`, which is reset; the softmax state is empty.
  init(_ job: AttentionJob, _ rotations: Rotations, _ scratch: Scratch) {
    let size = job.input.shape.headSize
    let rows = job.rowCount
    let panel = Int(HIP_PANEL)
    let padded = (size + panel - 1) / panel * panel
    let turns = job.far.quarters == nil ? 0 : panel * 2 * rotations.half
    scratch.reset(
      4 * Scratch.size(rows) + 3 * Scratch.size(rows * size) + Scratch.size(rows * panel)
        + 2 * Scratch.size(panel * size) + Scratch.size(panel * padded) + Scratch.size(turns) + 3
        * Scratch.size(panel))
    maximum = scratch.take(rows)
    sum = scratch.take(rows)
    output = scratch.take(rows * size)
    near = scratch.take(rows * size)
    far = scratch.take(rows * size)
    scores = scratch.take(rows * panel)
    keys = scratch.take(panel * size)
    values = scratch.take(panel * padded)
    gathered = scratch.take(panel * size)
    blended = scratch.take(turns)
    first = scratch.takeIntegers(rows)
    last = scratch.takeIntegers(rows)
    indices = scratch.takeIntegers(panel)
    nextIndices = scratch.takeIntegers(panel)
    positions = scratch.takeIntegers(panel)
    maximum.update(repeating: -.infinity, count: rows)
    sum.update(repeating: 0, count: rows)
    output.update(repeating: 0, count: rows * size)
  }

  /// Makes rows of three quarters of each position's turn and one of that of `quarters`.
  func blend(_ quarters: ArraySlice<Int32>, _ rotations: Rotations) {
    let width = 2 * rotations.half
    for (column, quarter) in quarters.enumerated() {
      guard let main = rotations.row(Int(positions[column])),
        let other = rotations.row(Int(quarter))
      else { return }
      for index in 0..<width {
        blended[column * width + index] = 0.75 * main[index] + 0.25 * other[index]
      }
      positions[column] = Int32(column)
    }
  }
}
