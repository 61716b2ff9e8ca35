// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute

/// Queries that share a softmax, and where what they give their columns is summed up.
struct ScoredRows {
  /// `[count, depth]`.
  let queries: UnsafeMutablePointer<Float>
  let count: Int
  let columns: Int
  let total: UnsafeMutablePointer<Float>
}

/// What the columns of a ranking are.
enum ScoredColumns {
  /// Stored rows of `depth` elements.
  case rows(depth: Int)
  /// Keys, turned to positions when there are rotations.
  case keys(headSize: Int, Rotations?)
  /// Keys in 4 bits, in groups.
  case fourBit(headSize: Int)
}

extension CPUBackend {
  /// Rows whose weights are held at a time: with 24K columns they fit a second-level cache.
  private static var rankedRows: Int { 12 }

  /// Scratch memory that `rank` takes.
  func columnScratchSize(_ rowCount: Int, columns: Int, depth: Int) -> Int {
    let panel = Int(HIP_PANEL)
    let tiles = (columns + panel - 1) / panel
    let padded = tiles * panel
    return Scratch.size(padded * (rowCount <= Self.fewRows ? 0 : depth + 1))
      + Scratch.size(panel * depth) + Scratch.size(rowCount * (depth + Int(HIP_QUERY_HEADER)))
      + Scratch.size(Self.rankedRows * panel) + Scratch.size(Self.rankedRows * padded)
      + 2 * Scratch.size(Self.rankedRows * tiles) + 2 * Scratch.size(panel) + Scratch.size(padded)
  }

  /// Scores all columns by all rows, and puts the rows of each group together by `ranking`.
  ///
  /// `fill` writes the rows to read for a range of columns (of 4-bit keys, the first key of each
  /// group), and the positions they turn to.
  func rank(
    _ groups: [ScoredRows], _ kind: ScoredColumns, _ ranking: ChunkRanking,
    _ stored: inout hip_rows, _ scratch: Scratch,
    fill: (Range<Int>, UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Int32>) -> Void
  ) {
    let panel = Int(HIP_PANEL)
    let columns = groups.map(\.columns).max() ?? 0
    let tiles = (columns + panel - 1) / panel
    let rowCount = groups.reduce(0) { $0 + $1.count }
    let indices = scratch.takeIntegers(panel)
    let positions = scratch.takeIntegers(panel)
    let tile = scratch.take(Self.rankedRows * panel)
    func width(_ start: Int, of columns: Int) -> Int { min(panel, columns - start) }
    switch kind {
    case .fourBit(let headSize):
      let queryWidth = headSize + Int(HIP_QUERY_HEADER)
      let prepared = scratch.take(rowCount * queryWidth)
      for group in groups {
        table.prepare_queries(group.queries, group.count, headSize, prepared)
        rank(group, ranking, tile, scratch) { start, first, height in
          let count = width(start, of: group.columns)
          fill(start..<start + count, indices, positions)
          table.score_four_bits(
            &stored, indices, count / KVLayout.fourBitGroup, headSize,
            prepared + first * queryWidth, height, tile, panel)
        }
      }
    case .rows(let depth) where rowCount <= Self.fewRows:
      rankFew(groups, depth: depth, nil)
    case .keys(let headSize, let rotations) where rowCount <= Self.fewRows:
      rankFew(groups, depth: headSize, rotations)
    case .rows(let depth):
      let gathered = scratch.take(panel * depth)
      let panels = scratch.take(tiles * panel * depth)
      for start in stride(from: 0, to: columns, by: panel) {
        let count = width(start, of: columns)
        fill(start..<start + count, indices, positions)
        table.pack_keys(
          &stored, indices, count, depth, nil, 0, positions, gathered, panels + start * depth)
      }
      for group in groups {
        rank(group, ranking, tile, scratch) { start, first, height in
          table.gemm(
            HIP_F32, group.queries + first * depth, depth, height, panels + start * depth, depth,
            tile,
            panel, panel, 0)
        }
      }
    case .keys(let headSize, let rotations):
      let gathered = scratch.take(panel * headSize)
      let panelSize = panel * (headSize + 1)
      let panels = scratch.take(tiles * panelSize)
      let queryWidth = headSize + Int(HIP_QUERY_HEADER)
      let prepared = scratch.take(rowCount * queryWidth)
      for start in stride(from: 0, to: columns, by: panel) {
        let count = width(start, of: columns)
        fill(start..<start + count, indices, positions)
        table.pack_coarse(
          &stored, indices, count, headSize, rotations?.table, rotations?.half ?? 0, positions,
          gathered, panels + start / panel * panelSize)
      }
      for group in groups {
        table.prepare_queries(group.queries, group.count, headSize, prepared)
        rank(group, ranking, tile, scratch) { start, first, height in
          table.score_coarse(
            panels + start / panel * panelSize, headSize, prepared + first * queryWidth, height,
            tile, panel)
        }
      }
    }
    /// Few rows: keys are scored where they lie instead of being transposed into panels.
    func rankFew(_ groups: [ScoredRows], depth: Int, _ rotations: Rotations?) {
      let gathered = scratch.take(panel * depth)
      for group in groups {
        rank(group, ranking, tile, scratch) { start, first, height in
          let count = width(start, of: group.columns)
          let queries = group.queries + first * depth
          fill(start..<start + count, indices, positions)
          if let rotations {
            table.gather_keys(
              &stored, indices, count, depth, rotations.table, rotations.half, positions, gathered)
            table.score_rows(queries, height, gathered, depth, tile, panel)
          } else {
            table.score_stored(&stored, indices, count, depth, queries, height, tile, panel)
          }
        }
      }
    }
  }

  /// Ranks the columns by one group's rows; `score` writes a tile of scores for the columns from
  /// `start` and `height` rows from `first`.
  private func rank(
    _ group: ScoredRows, _ ranking: ChunkRanking, _ tile: UnsafeMutablePointer<Float>,
    _ scratch: Scratch, score: (_ start: Int, _ first: Int, _ height: Int) -> Void
  ) {
    let panel = Int(HIP_PANEL)
    let tiles = (group.columns + panel - 1) / panel
    let padded = tiles * panel
    let mark = scratch.mark
    defer { scratch.mark = mark }
    let total = scratch.take(padded)
    let weights = scratch.take(Self.rankedRows * padded)
    let maxima = scratch.take(Self.rankedRows * tiles)
    let sums = scratch.take(Self.rankedRows * tiles)
    total.update(repeating: ranking == .maximum ? -.infinity : 0, count: padded)
    for first in stride(from: 0, to: group.count, by: Self.rankedRows) {
      let height = min(Self.rankedRows, group.count - first)
      for index in 0..<tiles {
        let start = index * panel
        let count = min(panel, group.columns - start)
        score(start, first, height)
        switch ranking {
        case .maximum:
          let best = weights
          table.column_max(tile, panel, height, panel, best)
          for column in 0..<count {
            total[start + column] = max(total[start + column], best[column])
          }
        case .share:
          table.share_tile(
            tile, height, count, UnsafeMutableRawPointer(weights) + start * table.weight_bytes,
            padded, maxima + index,
            sums + index, tiles)
        }
      }
      if ranking == .share {
        table.share_add(weights, padded, height, tiles, maxima, sums, tiles, total)
      }
    }
    group.total.update(from: total, count: group.columns)
  }
}
