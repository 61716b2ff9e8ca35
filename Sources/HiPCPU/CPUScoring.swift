// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute

/// The chunks of one stage, to be scored by some rows of queries of a set of heads.
struct ScoringJob {
  let call: SelectTask
  let stage: PruningStage
  let queries: Range<Int>
  let heads: Range<Int>
  /// First positions, ascending.
  let chunks: [Int32]
  /// Keys from here on are not scored.
  let limit: Int
  let rotations: Rotations
  /// Chunks that take part for the last of the blocks of queries that score this list one after the
  /// other; 0 when only one does.
  var sharedCount = 0

  var pruning: HierarchicalPruning { call.pruning }
  /// Positions of the queries.
  var positions: Range<Int> {
    call.input.start + queries.lowerBound..<call.input.start + queries.upperBound
  }
  var rowsPerHead: Int { (queries.count + stage.queryStride - 1) / stage.queryStride }
  var rowCount: Int { rowsPerHead * heads.count }
  var kvHead: Int { heads.lowerBound / call.input.shape.groupSize }

  /// The last key that a chunk, or what the halving search leaves of it, may begin with.
  var lastStart: Int32 {
    let first = call.input.start + queries.lowerBound
    let last = max(first - pruning.candidateDistance(in: stage), 0)
    // The search scores the keys below the limit; the other estimates take whole chunks.
    let end = call.input.start + queries.upperBound
    return Int32(min(last, stage.estimate == .halving ? limit - 1 : end - stage.chunkSize))
  }

  /// Chunks at the start of the list that take part: the others lie within the window.
  var activeCount: Int {
    let limit = lastStart
    var (low, high) = (0, chunks.count)
    while low < high {
      let middle = (low + high) / 2
      if chunks[middle] <= limit { low = middle + 1 } else { high = middle }
    }
    return low
  }
}

extension CPUBackend {
  /// The score of a chunk that lies within the window; equals the reference's.
  static var inactive: Float { Float(ReferenceSelection.inactiveScore) }

  /// Writes a score for each chunk of the job.
  func score(_ job: ScoringJob, into scores: UnsafeMutablePointer<Float>, thread: Int) {
    let active = job.activeCount
    for index in active..<job.chunks.count { scores[index] = Self.inactive }
    guard active > 0 else { return }
    switch job.stage.estimate {
    case .halving: halve(job, active, into: scores, thread: thread)
    case .means: scoreMeans(job, active, into: scores, scratch(thread))
    case .exact, .fourBit: scoreKeys(job, active, into: scores, thread: thread)
    case .tree: preconditionFailure("the tree search has no list of chunks to score")
    }
  }

  /// Keys whose pages are held together while candidates are scored: in turn, since all of them may be more than
  /// memory holds.
  private static var heldKeys: Int { 1024 }

  // MARK: Queries

  /// Copies the job's queries, scaled and rotated to `position`: the mean of neighbours, or the last of them.
  func pool(
    _ job: ScoringJob, into rows: UnsafeMutablePointer<Float>, position: (Int) -> Int
  ) {
    let input = job.call.input
    let size = input.shape.headSize
    let width = job.rotations.width
    // A product has the amplitude of both; a key that is not rotated brings none.
    let missing =
      keyPosition(job, chunk: 0, key: 0) == nil ? Float(input.rotary?.amplitude ?? 1) : 1
    withUnsafeTemporaryAllocation(of: Float.self, capacity: size + width) { memory in
      guard let rotated = memory.baseAddress else { return }
      let queries = input.queries.floats
      var row = rows
      for head in job.heads {
        for first in stride(
          from: job.queries.lowerBound, to: job.queries.upperBound, by: job.stage.queryStride)
        {
          let end = min(first + job.stage.queryStride, job.queries.upperBound)
          let group = (job.stage.averagesQueries ? first : end - 1)..<end
          row.update(repeating: 0, count: size)
          let scale = input.shape.scale / Float(group.count)
          for query in group {
            let place = position(input.start + query)
            table.rotate(
              queries + query * input.queries.columns + head * size,
              job.rotations.row(place, rotated + size), job.rotations.half, size, scale, rotated)
            if missing != 1 {
              for element in 0..<width { rotated[element] *= missing }
            }
            for element in 0..<size { row[element] += rotated[element] }
          }
          row += size
        }
      }
    }
  }

  /// Where a query stands while scored; `branch` is that of the key.
  func queryPosition(_ job: ScoringJob, branch: Int) -> (Int) -> Int {
    let window = job.pruning.pruningWindow
    switch job.pruning.pruningPositions {
    // Rotating the query back by the branch equals rotating the key forward.
    case .relative: return { _ in window + 1 - branch }
    case .infllm: return { _ in window }
    case .chunkIndexed, .streaming, .spread:
      let count = job.chunks.count
      return { min($0, count + window) }
    case .absolute, .selfExtend, .dynamic: return { $0 }
    }
  }

  /// Where a key stands while scored; nil when queries alone are rotated.
  func keyPosition(_ job: ScoringJob, chunk: Int, key: Int32) -> Int32? {
    let scheme = job.pruning.pruningPositions
    switch scheme {
    case .relative, .infllm: return nil
    case .chunkIndexed, .streaming, .spread: return Int32(chunk)
    case .absolute, .selfExtend, .dynamic:
      return Int32(
        scheme.position(
          ofKey: Int(key), queries: job.positions, trainedLength: job.call.input.trainedLength))
    }
  }

  func withKeys(_ job: ScoringJob, _ held: HeldPages, _ body: (UnsafePointer<ihp_rows>) -> Void) {
    job.call.input.blocks.withRows(.keys, layer: job.call.layer, kvHead: job.kvHead, held, body)
  }

  /// Holds the pages of some keys of a job, and no others.
  func hold(
    _ keys: UnsafePointer<Int32>, _ count: Int, of job: ScoringJob, _ held: HeldPages
  ) {
    held.hold(
      keys, count, [.keys], of: job.call.input.blocks, layer: job.call.layer, kvHead: job.kvHead)
  }

  /// Calls `body` with the groups of a sketch of a job's keys.
  private func withGroups(
    _ job: ScoringJob, _ sketch: KeySketch, _ body: (UnsafePointer<ihp_rows>) -> Void
  ) {
    job.call.input.blocks.withGroups(
      sketch, layer: job.call.layer, kvHead: job.kvHead, body)
  }

  // MARK: Halving

  /// The halving search in 64 chunks at a time.
  private func halve(
    _ job: ScoringJob, _ active: Int, into scores: UnsafeMutablePointer<Float>, thread: Int
  ) {
    let (scratch, held) = (scratch(thread), heldPages(thread))
    let size = job.call.input.shape.headSize
    let panel = Int(IHP_PANEL)
    let rows = job.rowCount
    let isThere = scratch.reset(
      2 * Scratch.size(rows * size) + 2 * Scratch.size(panel * size) + Scratch.size(rows * panel)
        + 6 * Scratch.size(panel) + Scratch.size(job.rotations.tileSize))
    guard isThere else { return }
    let branches = [scratch.take(rows * size), scratch.take(rows * size)]
    for branch in 0...1 {
      pool(job, into: branches[branch], position: queryPosition(job, branch: branch))
    }
    let gathered = scratch.take(panel * size)
    let keys = scratch.take(panel * size)
    let products = scratch.take(rows * panel)
    let best = [scratch.take(panel), scratch.take(panel)]
    let left = scratch.takeIntegers(panel)
    let right = scratch.takeIntegers(panel)
    let probes = scratch.takeIntegers(panel)
    let positions = scratch.takeIntegers(panel)
    let tileRotations = scratch.take(job.rotations.tileSize)
    let rotates = keyPosition(job, chunk: 0, key: 0) != nil
    let lastStart = job.lastStart
    for tile in stride(from: 0, to: active, by: panel) {
      let count = min(panel, active - tile)
      var searching = 0
      for index in 0..<count {
        left[index] = job.chunks[tile + index]
        right[index] = Int32(min(Int(left[index]) + job.stage.chunkSize, job.limit))
        scores[tile + index] = Self.inactive
        searching = max(searching, Int(right[index] - left[index]))
      }
      while searching >= 1 {
        for branch in 0...1 {
          for index in 0..<count {
            let center = (left[index] + right[index]) / 2
            let ends = branch == 0 ? (left[index], center) : (center, right[index])
            probes[index] =
              job.pruning.halving.representative == .first ? ends.0 : (ends.0 + ends.1) / 2
            positions[index] =
              keyPosition(job, chunk: tile + index, key: probes[index]) ?? 0
          }
          let rotation = rotates ? job.rotations.tile(positions, count, tileRotations) : nil
          hold(probes, count, of: job, held)
          withKeys(job, held) { keyRows in
            table.pack_keys(
              keyRows, probes, count, size, rotation, job.rotations.half, positions, gathered, keys
            )
          }
          table.gemm(IHP_F32, branches[branch], size, rows, keys, size, products, panel, panel, 0)
          table.column_max(products, panel, rows, panel, best[branch])
        }
        searching = 0
        for index in 0..<count where left[index] < right[index] && left[index] <= lastStart {
          let width = right[index] - left[index]
          let center = (left[index] + right[index]) / 2
          if best[0][index] > best[1][index] {
            right[index] = center
          } else {
            left[index] = center
          }
          scores[tile + index] =
            job.pruning.halving.score == .final
            ? best[1][index] : max(scores[tile + index], best[0][index], best[1][index])
          // A chunk of one key has been probed: it is done.
          if width == 1 { right[index] = left[index] }
          if left[index] <= lastStart {
            searching = max(searching, Int(right[index] - left[index]))
          }
        }
      }
    }
    held.release()
  }

  // MARK: Means

  /// Shares as the means of halves of chunks have them; the chunks are consecutive, from a block's first on.
  private func scoreMeans(
    _ job: ScoringJob, _ active: Int, into scores: UnsafeMutablePointer<Float>, _ scratch: Scratch
  ) {
    let size = job.call.input.shape.headSize
    let rows = job.rowCount
    let (groupSize, panel) = (KVFormat.groupSize, Int(IHP_PANEL))
    let first = Int(job.chunks[0]) / job.call.input.blocks.store.format.blockSize
    let last = first + (active - 1) / groupSize
    var groups: [Int32] = []
    groups.reserveCapacity(2 * (last - first + panel / groupSize))
    for block in stride(from: first, through: last, by: panel / groupSize / 2) {
      for half in 0..<2 {
        for next in block..<block + panel / groupSize / 2 {
          groups.append(Int32((2 * min(next, last) + half) * groupSize))
        }
      }
    }
    let kind = ScoredColumns.means(groups)
    let isThere = scratch.reset(
      Scratch.size(rows * size)
        + rankScratchSize(kind, rowCount: rows, columns: 2 * active, headSize: size))
    guard isThere else { return }
    let queries = scratch.take(rows * size)
    pool(job, into: queries, position: queryPosition(job, branch: 1))
    let scored = ScoredRows(
      queries: queries, count: rows, headSize: size, columns: 2 * active, fold: 2, total: scores)
    withGroups(job, .means(ofKeys: Self.keysPerMean)) { groups in
      rank(scored, kind, job.pruning.ranking, groups, scratch)
    }
  }

  // MARK: Exact

  private func scoreKeys(
    _ job: ScoringJob, _ active: Int, into scores: UnsafeMutablePointer<Float>, thread: Int
  ) {
    let (scratch, panels) = (scratch(thread), keyPanels(thread))
    let size = job.call.input.shape.headSize
    let chunkSize = job.stage.chunkSize
    let columns = active * chunkSize
    let ranking = job.pruning.ranking
    let rotates = keyPosition(job, chunk: 0, key: 0) != nil
    let isFourBit = job.stage.estimate == .fourBit
    // Keys that are rotated to where this block sees them are of no use to others.
    let isShared = !rotates && job.sharedCount > 0
    let packed = isShared ? job.sharedCount : active
    let kind: ScoredColumns =
      isFourBit
      ? .fourBit(
        stride(from: 0, to: columns, by: KVFormat.groupSize).map { key in
          job.chunks[key / chunkSize] + Int32(key % chunkSize)
        })
      : .keys(
        rotates ? job.rotations : nil,
        PackedColumns(count: packed * chunkSize, isShared: isShared, panels: panels))
    // Four keys' shares are summed where they are computed, when their order may be chosen.
    let fold = !isFourBit && ranking == .share && chunkSize % 4 == 0 ? 4 : 1
    let isThere = scratch.reset(
      Scratch.size(job.rowCount * size) + Scratch.size(columns / fold)
        + rankScratchSize(kind, rowCount: job.rowCount, columns: columns, headSize: size))
    guard isThere else { return }
    let queries = scratch.take(job.rowCount * size)
    pool(job, into: queries, position: queryPosition(job, branch: 1))
    let totals = scratch.take(columns / fold)
    let rows = ScoredRows(
      queries: queries, count: job.rowCount, headSize: size, columns: columns, fold: fold,
      total: totals)
    if isFourBit {
      withGroups(job, .fourBit) { groups in
        rank(rows, kind, ranking, groups, scratch)
      }
    } else {
      let held = heldPages(thread)
      var heldColumns = 0..<0
      let isTight = job.call.input.blocks.store.pages?.isTight ?? false
      let heldKeys = isTight ? Int(IHP_PANEL) : Self.heldKeys
      withKeys(job, held) { keys in
        rank(rows, kind, ranking, keys, scratch) { start, tile in
          var (chunk, inside) = start.quotientAndRemainder(dividingBy: chunkSize)
          // A tile that is not full repeats the last chunk; its columns do not count.
          var first = job.chunks[min(chunk, packed - 1)]
          let width = Int(IHP_PANEL) / fold
          for group in 0..<width {
            // Folded keys are 16 columns apart, so that vectors add up; wrapping sums are computed by vectors.
            tile.indices[group] = first &+ Int32(truncatingIfNeeded: inside)
            if rotates {
              for part in 0..<fold {
                tile.positions[part * width + group] =
                  keyPosition(
                    job, chunk: min(chunk, packed - 1), key: first + Int32(inside + part)) ?? 0
              }
            }
            inside += fold
            if inside == chunkSize {
              (chunk, inside) = (chunk + 1, 0)
              first = job.chunks[min(chunk, packed - 1)]
            }
          }
          for part in 1..<max(1, fold) {
            for group in 0..<width {
              tile.indices[part &* width &+ group] =
                tile.indices[group] &+ Int32(truncatingIfNeeded: part)
            }
          }
        } hold: { start in
          let next = start + Int(IHP_PANEL)
          guard !heldColumns.contains(start) else { return heldColumns.contains(next) }
          heldColumns = start..<min(packed * chunkSize, start + heldKeys)
          held.hold(
            chunks: job.chunks[
              start / chunkSize...min(packed - 1, (heldColumns.upperBound - 1) / chunkSize)],
            of: chunkSize, job.call.input.blocks, layer: job.call.layer, kvHead: job.kvHead)
          return heldColumns.contains(next)
        }
      }
      held.release()
    }
    let parts = chunkSize / fold
    for chunk in 0..<active {
      var total = totals[chunk * parts]
      for part in 1..<max(1, parts) {
        let value = totals[chunk * parts + part]
        total = ranking == .maximum ? max(total, value) : total + value
      }
      scores[chunk] = total
    }
  }
}
