// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
public import HiPCompute

extension CPUBackend {
  /// Splits each item into jobs, one per block of queries and set of heads that reach the same keys; those of
  /// few queries further into parts of their keys, which are merged afterwards (split-K).
  ///
  /// Parts of a job's keys depend on the job alone; its heads may go apart, since a row depends on no other.
  public func attend(_ call: AttendCall) {
    var whole: [(work: AttentionWork, job: Int, heads: Range<Int>)] = []
    var split: [(work: AttentionWork, job: Int)] = []
    for item in call.batch {
      if case .heavyHitters(let hitters, let state) = item.reach {
        attendEvicting(item, layer: call.layer, hitters, state.onCPU)
        continue
      }
      let work = AttentionWork(item, layer: call.layer, on: self)
      for job in 0..<work.jobCount {
        if work.rowCount(ofJob: job) > Self.fewRows {
          whole.append((work, job, work.heads(ofJob: job)))
        } else {
          split.append((work, job))
        }
      }
    }
    if whole.count < pool.threadCount {
      // Heads that reach the same keys go apart and pack them anew: a row's result depends on nothing beside it.
      whole = whole.flatMap { work, job, heads in
        work.rowCount(ofJob: job) / heads.count > Self.fewRows
          ? heads.map { (work, job, $0..<$0 + 1) } : [(work, job, heads)]
      }
    }
    pool.runRising(whole.count) { index, thread in
      let (work, number, heads) = whole[index]
      var job = work.job(number)
      job.heads = heads
      attendPart(job, part: 0, of: 1, work.rotations, thread: thread) { state, rows in
        addSinks(to: &state, of: job)
        table.softmax_finish(&state, rows, job.headSize)
        write(state.output, of: job, to: work.output)
      }
    }
    if !split.isEmpty { attendInParts(split) }
  }

  /// Jobs of few queries, whose keys are shared out over the threads.
  private func attendInParts(_ split: [(work: AttentionWork, job: Int)]) {
    var made = [AttentionJob?](repeating: nil, count: split.count)
    made.withUnsafeMutableBufferPointer { made in
      // Each item writes its own element.
      nonisolated(unsafe) let made = made
      pool.run(split.count) { index, _ in made[index] = split[index].work.job(split[index].job) }
    }
    let jobs = made.compactMap { $0 }
    var units: [(job: Int, part: Int)] = []
    var offsets: [Int] = []
    var size = 0
    for (index, job) in jobs.enumerated() {
      for part in 0..<job.partCount {
        units.append((index, part))
        offsets.append(size)
        size += 2 * Scratch.size(job.rowCount) + Scratch.size(job.rowCount * job.headSize)
      }
    }
    guard partials.reset(size) else { return }
    let memory = partials.take(size)
    func state(_ unit: Int, _ job: AttentionJob) -> ihp_softmax {
      let start = memory + offsets[unit]
      return ihp_softmax(
        maximum: start, sum: start + Scratch.size(job.rowCount),
        output: start + 2 * Scratch.size(job.rowCount))
    }
    pool.run(units.count) { unit, thread in
      let (index, part) = units[unit]
      let job = jobs[index]
      attendPart(job, part: part, of: job.partCount, split[index].work.rotations, thread: thread) {
        partial, rows in
        let kept = state(unit, job)
        kept.maximum.update(from: partial.maximum, count: rows)
        kept.sum.update(from: partial.sum, count: rows)
        kept.output.update(from: partial.output, count: rows * job.headSize)
      }
    }
    let first = units.indices.filter { units[$0].part == 0 }
    pool.run(jobs.count) { index, _ in
      let job = jobs[index]
      var merged = state(first[index], job)
      for part in 1..<job.partCount {
        var next = state(first[index] + part, job)
        table.softmax_merge(&merged, &next, job.rowCount, job.headSize)
      }
      addSinks(to: &merged, of: job)
      table.softmax_finish(&merged, job.rowCount, job.headSize)
      write(merged.output, of: job, to: split[index].work.output)
    }
  }

  /// Runs one part of a job's key tiles and hands the softmax state on, before its memory is reused.
  private func attendPart(
    _ job: AttentionJob, part: Int, of parts: Int, _ rotations: Rotations, thread: Int,
    then use: (inout ihp_softmax, Int) -> Void
  ) {
    guard let memory = TileMemory(job, rotations, scratch(thread)) else { return }
    var state = ihp_softmax(
      maximum: memory.maximum, sum: memory.sum, output: memory.output)
    foldTiles(
      job.part(part, of: parts), of: job, rotations, memory, heldPages(thread), &state)
    use(&state, job.rowCount)
  }

  /// Counts each head's sink among the scores of its rows.
  func addSinks(to state: inout ihp_softmax, of job: AttentionJob) {
    guard let sinks = job.input.sinks else { return }
    for row in 0..<job.rowCount {
      let sink = sinks.floats[job.heads.lowerBound + row / job.queries.count]
      let (old, best) = (state.maximum[row], max(state.maximum[row], sink))
      let shrink = old == -.infinity ? 0 : exp(old - best)
      state.maximum[row] = best
      state.sum[row] = state.sum[row] * shrink + exp(sink - best)
      guard shrink != 1 else { continue }
      for element in row * job.headSize..<(row + 1) * job.headSize {
        state.output[element] *= shrink
      }
    }
  }

  /// Folds tiles of a job into its softmax state.
  func foldTiles(
    _ tiles: Range<Int>, of job: AttentionJob, _ rotations: Rotations, _ memory: TileMemory,
    _ held: HeldPages, _ state: inout ihp_softmax
  ) {
    let size = job.headSize
    let rows = job.rowCount
    let panel = Int(IHP_PANEL)
    let isFew = rows <= Self.fewRows
    let element = isFew ? IHP_F32 : table.product_element
    loadQueries(job, rotations, memory)
    var (indices, next) = (memory.indices, memory.nextIndices)
    if !tiles.isEmpty { job.fillKeys(tiles.lowerBound, indices) }
    let blocks = job.input.blocks
    // Few rows are soon done with a tile: the pages of several are held at once.
    let together = blocks.store.pages.map { $0.isTight ? 1 : isFew ? 8 : 2 }
    blocks.withRows(.keys, layer: job.layer, kvHead: job.kvHead, held) { keys in
      blocks.withRows(.values, layer: job.layer, kvHead: job.kvHead, held) { values in
        for tile in tiles {
          let count = job.tile(tile).count
          if let together, (tile - tiles.lowerBound) % together == 0 {
            job.hold(tile..<min(tile + together, tiles.upperBound), [.keys, .values], held)
          }
          job.fillTile(tile, memory, indices)
          let isLast = tile + 1 == tiles.upperBound
          if !isLast { job.fillKeys(tile + 1, next) }
          if isFew {
            // Keys and values of few queries come from memory, which is kept busy: scores take longer than sums of
            // values, so a quarter of the next keys is prefetched beside them.
            let nextCount = isLast ? 0 : job.tile(tile + 1).count
            let early = min(nextCount, panel / 4)
            score(
              tile, of: job, rotations, memory, indices, keys,
              ahead: ihp_ahead(rows: values, indices: indices, count: count),
              further: ihp_ahead(rows: keys, indices: next, count: early))
            table.softmax_fold(
              memory.scores, rows, count, memory.first, memory.last, size, element, &state)
            table.add_values(
              values, indices, count, size,
              ihp_ahead(rows: keys, indices: next + early, count: nextCount - early),
              memory.scores, rows, panel, state.output)
          } else {
            score(tile, of: job, rotations, memory, indices, keys)
            table.softmax_fold(
              memory.scores, rows, count, memory.first, memory.last, size, element, &state)
            table.pack_values(values, indices, count, size, memory.gathered, memory.values)
            // Pairs: what is beyond an odd last key weighs nothing.
            let depth = element == IHP_F32 ? count : (count + 1) / 2 * 2
            for column in stride(from: 0, to: size, by: panel) {
              table.gemm(
                element, memory.scores, panel * elementsPerFloat, rows,
                memory.values + column * panel, depth, state.output + column, size,
                min(panel, size - column), 1)
            }
          }
          swap(&indices, &next)
        }
      }
    }
    held.release()
  }

  /// Scores a tile of keys, whose places have been filled in, by all rows of a job; few rows prefetch meanwhile.
  func score(
    _ tile: Int, of job: AttentionJob, _ rotations: Rotations, _ memory: TileMemory,
    _ indices: UnsafeMutablePointer<Int32>, _ keys: UnsafePointer<ihp_rows>,
    ahead: ihp_ahead = ihp_ahead(), further: ihp_ahead = ihp_ahead()
  ) {
    defer {
      if let cap = job.input.shape.softCap {
        table.soft_cap(memory.scores, job.rowCount * Int(IHP_PANEL), cap)
      }
    }
    let size = job.headSize
    let rows = job.rowCount
    let panel = Int(IHP_PANEL)
    let (isFar, start, count) = job.tile(tile)
    var rotation = UnsafePointer(rotations.table)
    var isBlended = false
    if isFar, let quarters = job.far.quarters, rotations.table != nil {
      memory.blend(quarters[start..<start + count], rotations)
      rotation = UnsafePointer(memory.blended)
      isBlended = true
    }
    var queries = isFar ? memory.far : memory.near
    guard rows <= Self.fewRows else {
      if !isBlended { rotation = rotations.tile(memory.positions, count, memory.blended) }
      table.pack_keys(
        keys, indices, count, size, rotation, rotations.half, memory.positions, memory.gathered,
        memory.keys)
      table.gemm(
        table.product_element, queries, size * elementsPerFloat, rows, memory.keys, size,
        memory.scores, panel, panel, 0)
      return
    }
    if !isBlended {
      queries = rebase(job, count, isFar: isFar, rotations, memory) ?? queries
      rotation = rotations.tile(memory.positions, count, memory.blended)
    }
    table.score_stored(
      keys, indices, count, size, rotation, rotations.half, memory.positions, ahead, further,
      memory.gathered, queries, rows, memory.scores, panel)
  }

  /// Counts a tile's positions from its first one, and rotates the queries back by as much: rotations of
  /// few positions stay in the nearest cache, where those of a long text would come from memory.
  /// - Returns: the queries; nil when nothing rotates, or a query stands before the tile.
  private func rebase(
    _ job: AttentionJob, _ count: Int, isFar: Bool, _ rotations: Rotations, _ memory: TileMemory
  ) -> UnsafeMutablePointer<Float>? {
    guard rotations.table != nil else { return nil }
    var least = memory.positions[0]
    for column in 1..<max(1, count) { least = min(least, memory.positions[column]) }
    let base = Int(least)
    let first = job.input.start + job.queries.lowerBound
    guard base > 0, job.position(first, isFar: isFar) >= base else { return nil }
    for column in 0..<count { memory.positions[column] &-= least }
    loadQueries(job, rotations, into: memory.keys, isFar: isFar, from: base)
    return memory.keys
  }

  /// Loads a job's queries; many, which are multiplied in panels, in the precision of the products.
  private func loadQueries(_ job: AttentionJob, _ rotations: Rotations, _ memory: TileMemory) {
    loadQueries(job, rotations, into: memory.near, isFar: false)
    if !job.far.isEmpty { loadQueries(job, rotations, into: memory.far, isFar: true) }
    guard job.rowCount > Self.fewRows, table.product_element != IHP_F32 else { return }
    for queries in job.far.isEmpty ? [memory.near] : [memory.near, memory.far] {
      for row in 0..<job.rowCount {
        let query = queries + row * job.headSize
        table.narrow(table.product_element, query, job.headSize, query)
      }
    }
  }

  /// Elements of a product that lie where one float does.
  private var elementsPerFloat: Int { MemoryLayout<Float>.size / productBytes }

  /// Copies a job's queries, head by head, scaled and rotated to the positions that they appear at, counted from `base`.
  private func loadQueries(
    _ job: AttentionJob, _ rotations: Rotations, into rows: UnsafeMutablePointer<Float>,
    isFar: Bool, from base: Int = 0
  ) {
    let size = job.headSize
    let queries = job.input.queries.floats
    let width = job.input.queries.columns
    withUnsafeTemporaryAllocation(of: Float.self, capacity: max(1, rotations.width)) { memory in
      guard let memory = memory.baseAddress else { return }
      for (index, query) in job.queries.enumerated() {
        let position = job.position(job.input.start + query, isFar: isFar) - base
        let rotation = rotations.row(position, memory)
        for (place, head) in job.heads.enumerated() {
          table.rotate(
            queries + query * width + head * size, rotation, rotations.half, size,
            job.input.shape.scale, rows + (place * job.queries.count + index) * size)
        }
      }
    }
  }

  func write(
    _ rows: UnsafeMutablePointer<Float>, of job: AttentionJob, to output: DeviceTensor
  ) {
    let size = job.headSize
    var row = 0
    for head in job.heads {
      for query in job.queries {
        (output.floats(row: query) + head * size).update(from: rows + row * size, count: size)
        row += 1
      }
    }
  }
}

/// What one thread needs to go through a job's tiles.
struct TileMemory {
  /// Softmax state per row.
  let maximum, sum, output: UnsafeMutablePointer<Float>
  /// Queries `[rows, headSize]`, rotated towards near and far keys.
  let near, far: UnsafeMutablePointer<Float>
  /// `[rows, 64]`.
  let scores: UnsafeMutablePointer<Float>
  let keys, values, gathered: UnsafeMutablePointer<Float>
  /// Rows of a rotation table of the tile's own.
  let blended: UnsafeMutablePointer<Float>
  let first, last, indices, nextIndices, positions: UnsafeMutablePointer<Int32>

  /// Takes the memory from `scratch`, which is reset; the softmax state is empty.
  init?(_ job: AttentionJob, _ rotations: Rotations, _ scratch: Scratch) {
    let size = job.headSize
    let rows = job.rowCount
    let panel = Int(IHP_PANEL)
    let padded = (size + panel - 1) / panel * panel
    let rotation = job.far.quarters == nil ? rotations.tileSize : panel * rotations.width
    let isThere = scratch.reset(
      4 * Scratch.size(rows) + 3 * Scratch.size(rows * size) + Scratch.size(rows * panel)
        + 2 * Scratch.size(panel * size) + Scratch.size(panel * padded) + Scratch.size(rotation) + 3
        * Scratch.size(panel))
    guard isThere else { return nil }
    maximum = scratch.take(rows)
    sum = scratch.take(rows)
    output = scratch.take(rows * size)
    near = scratch.take(rows * size)
    far = scratch.take(rows * size)
    scores = scratch.take(rows * panel)
    keys = scratch.take(panel * size)
    values = scratch.take(panel * padded)
    gathered = scratch.take(panel * size)
    blended = scratch.take(rotation)
    first = scratch.takeIntegers(rows)
    last = scratch.takeIntegers(rows)
    indices = scratch.takeIntegers(panel)
    nextIndices = scratch.takeIntegers(panel)
    positions = scratch.takeIntegers(panel)
    maximum.update(repeating: -.infinity, count: rows)
    sum.update(repeating: 0, count: rows)
    output.update(repeating: 0, count: rows * size)
  }

  /// Makes rows of three quarters of each position's rotation and one of that of `quarters`.
  func blend(_ quarters: ArraySlice<Int32>, _ rotations: Rotations) {
    let width = rotations.width
    withUnsafeTemporaryAllocation(of: Float.self, capacity: max(1, 2 * width)) { memory in
      guard let memory = memory.baseAddress else { return }
      for (column, quarter) in quarters.enumerated() {
        guard let main = rotations.row(Int(positions[column]), memory),
          let other = rotations.row(Int(quarter), memory + width)
        else { return }
        for index in 0..<width {
          blended[column * width + index] = 0.75 * main[index] + 0.25 * other[index]
        }
        positions[column] = Int32(column)
      }
    }
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif
