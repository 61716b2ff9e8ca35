// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute

/// Queries that share a softmax, and where what they give their columns is summed up.
struct ScoredRows {
  /// `[count, headSize]`.
  let queries: UnsafeMutablePointer<Float>
  let count: Int
  let headSize: Int
  let columns: Int
  /// Neighbouring columns that are put together: their sum is all that is needed.
  let fold: Int
  /// `[columns / fold]`.
  let total: UnsafeMutablePointer<Float>
}

/// Keys packed for products, kept while blocks of queries score the same list.
final class KeyPanels {
  private let memory: Scratch
  private var shared: UnsafeMutablePointer<Float>?

  init(_ ledger: MemoryLedger) { memory = Scratch(ledger) }

  /// The next list is another one.
  func drop() { shared = nil }

  /// Room of `count` floats that `pack` has filled, now or, for a shared list, at an earlier call; nil without
  /// memory for them.
  func panels(
    _ count: Int, isShared: Bool, pack: (UnsafeMutablePointer<Float>) -> Void
  ) -> UnsafeMutablePointer<Float>? {
    if isShared, let shared { return shared }
    guard memory.reset(count) else { return nil }
    let panels = memory.take(count)
    pack(panels)
    shared = isShared ? panels : nil
    return panels
  }
}

/// What the columns of a ranking are.
enum ScoredColumns {
  /// Means, in groups; the first row of each. Those of 32 chunks at a time: four groups of their first halves, then
  /// four of their second ones, some groups twice where there are no more.
  case means([Int32])
  /// Keys in 4 bits, in groups; the first key of each.
  case fourBit([Int32])
  /// Keys, rotated to positions when there are rotations, and where they are packed.
  case keys(Rotations?, PackedColumns)
}

extension ScoredColumns {
  /// Floats of the rotations of a tile's own that may be needed.
  var rotationTileSize: Int {
    if case .keys(let rotations, _) = self { rotations?.tileSize ?? 0 } else { 0 }
  }
}

/// Columns that are packed into panels.
struct PackedColumns {
  /// At least those that are ranked.
  let count: Int
  /// Whether other blocks of queries rank columns of the same list.
  let isShared: Bool
  let panels: KeyPanels
}

/// Which rows a tile of up to 64 columns has, and the positions that they are rotated to.
struct ColumnTile {
  let indices, positions: UnsafeMutablePointer<Int32>
}

extension CPUBackend {
  /// Queries up to which keys are scored row by row instead of being transposed into panels.
  static var fewRows: Int { 8 }

  /// Rows whose weights are held at a time: with 24K folded columns they fit a second-level cache.
  private static var rankedRows: Int { 64 }

  /// Scratch memory that `rank` takes.
  func rankScratchSize(_ kind: ScoredColumns, rowCount: Int, columns: Int, headSize: Int) -> Int {
    let panel = Int(IHP_PANEL)
    let tiles = (columns + panel - 1) / panel
    let rows = min(rowCount, Self.rankedRows)
    return Scratch.size(panel * headSize)
      + Scratch.size(rowCount * (headSize + Int(IHP_QUERY_HEADER)))
      + Scratch.size(rows * panel) + Scratch.size(rows * tiles * panel)
      + 2 * Scratch.size(rows * tiles) + 4 * Scratch.size(panel) + Scratch.size(tiles * panel)
      + Scratch.size(kind.rotationTileSize)
  }

  /// Scores all columns by all rows, and puts the rows together by `ranking`.
  ///
  /// `fill` writes which keys the tile that begins at a column reads, `hold` keeps them in memory until it is called
  /// for another tile, and says whether those of the next are, too.
  func rank(
    _ rows: ScoredRows, _ kind: ScoredColumns, _ ranking: ChunkRanking,
    _ stored: UnsafePointer<ihp_rows>, _ scratch: Scratch,
    fill: (_ start: Int, ColumnTile) -> Void = { _, _ in },
    hold: (_ start: Int) -> Bool = { _ in true }
  ) {
    let panel = Int(IHP_PANEL)
    let size = rows.headSize
    var read = ColumnTile(
      indices: scratch.takeIntegers(panel), positions: scratch.takeIntegers(panel))
    let tileRotations = scratch.take(kind.rotationTileSize)
    let queryWidth = size + Int(IHP_QUERY_HEADER)
    func prepared(_ count: Int) -> UnsafeMutablePointer<Float> {
      let queries = scratch.take(count * queryWidth)
      table.prepare_queries(rows.queries, count, size, queries)
      return queries
    }
    typealias GroupScore = (
      UnsafePointer<ihp_rows>?, UnsafePointer<Int32>?, Int, Int, Int, UnsafePointer<Float>?, Int,
      UnsafeMutablePointer<Float>?, Int
    ) -> Void
    /// Groups are scored where they lie.
    func scoreGroups(_ groups: [Int32], _ score: GroupScore) {
      let queries = prepared(rows.count)
      let known = groups.count
      groups.withUnsafeBufferPointer { groups in
        guard let groups = groups.baseAddress else { return }
        fold(rows, ranking, scratch) { start, first, height, tile in
          let done = start / KVFormat.groupSize
          score(
            stored, groups + done, min(panel / KVFormat.groupSize, known - done), known - done,
            size, queries + first * queryWidth, height, tile, panel)
        }
      }
    }
    switch kind {
    case .means(let groups) where ranking == .share:
      let queries = prepared(rows.count)
      groups.withUnsafeBufferPointer { groups in
        guard let first = groups.baseAddress else { return }
        foldRows(rows, ranking, scratch) { row, height, pass in
          table.share_means(
            stored, first, groups.count, size, queries + row * queryWidth, height, rows.columns,
            pass.tile, pass.weights, pass.maxima, pass.sums)
        }
      }
    case .means(let groups): scoreGroups(groups, table.score_means)
    case .fourBit(let groups): scoreGroups(groups, table.score_four_bits)
    case .keys(let rotations, _) where rows.count <= Self.fewRows:
      // Keys are scored where they lie instead of being transposed into panels.
      let gathered = scratch.take(panel * size)
      // They lie scattered: a tile's are loaded while the one before is scored.
      var next = ColumnTile(
        indices: scratch.takeIntegers(panel), positions: scratch.takeIntegers(panel))
      fill(0, next)
      fold(rows, ranking, scratch) { start, first, height, tile in
        let isNextHeld = hold(start)
        swap(&read, &next)
        let hasNext = start + panel < rows.columns
        if hasNext { fill(start + panel, next) }
        let rotation = rotations?.tile(read.positions, panel, tileRotations)
        table.score_stored(
          stored, read.indices, panel, size, rotation, rotations?.half ?? 0, read.positions,
          ihp_ahead(rows: stored, indices: next.indices, count: hasNext && isNextHeld ? panel : 0),
          ihp_ahead(), gathered, rows.queries + first * size, height,
          tile, panel)
      }
    case .keys(let rotations, let packed):
      let gathered = scratch.take(panel * size)
      let panelSize = panel * (size * table.coarse_bytes / MemoryLayout<Float>.size + 1)
      let panels = packed.panels.panels(
        (packed.count + panel - 1) / panel * panelSize, isShared: packed.isShared
      ) { panels in
        for start in stride(from: 0, to: packed.count, by: panel) {
          _ = hold(start)
          fill(start, read)
          let rotation = rotations?.tile(read.positions, panel, tileRotations)
          table.pack_coarse(
            stored, read.indices, panel, size, rotation, rotations?.half ?? 0,
            read.positions, gathered, panels + start / panel * panelSize)
        }
      }
      guard let panels else { return }
      let queries = prepared(rows.count)
      switch ranking {
      case .maximum:
        fold(rows, ranking, scratch) { start, first, height, tile in
          table.score_coarse(
            panels + start / panel * panelSize, size, queries + first * queryWidth, height, tile,
            panel)
        }
      case .share:
        foldRows(rows, ranking, scratch) { first, height, pass in
          table.share_keys(
            panels, size, queries + first * queryWidth, height, rows.columns, rows.fold, pass.tile,
            pass.weights, pass.maxima, pass.sums)
        }
      }
    }
  }

  /// What a first pass over columns works with, and leaves for the second.
  private struct FirstPass {
    /// Scores of a tile.
    let tile: UnsafeMutablePointer<Float>
    let weights: UnsafeMutablePointer<Float>
    let maxima, sums: UnsafeMutablePointer<Float>
    let tiles: Int
    /// `[columns]`, all rows together.
    let total: UnsafeMutablePointer<Float>
  }

  /// Puts the rows' scores of each column together; `score` writes a tile of them for the columns from
  /// `start` and `height` rows from `first`.
  private func fold(
    _ rows: ScoredRows, _ ranking: ChunkRanking, _ scratch: Scratch,
    score: (_ start: Int, _ first: Int, _ height: Int, _ tile: UnsafeMutablePointer<Float>) -> Void
  ) {
    let panel = Int(IHP_PANEL)
    let width = panel / rows.fold
    foldRows(rows, ranking, scratch) { first, height, pass in
      for index in 0..<pass.tiles {
        let start = index * panel
        let count = min(panel, rows.columns - start)
        score(start, first, height, pass.tile)
        switch ranking {
        case .maximum:
          table.column_max(pass.tile, panel, height, panel, pass.weights)
          for column in 0..<count {
            pass.total[start + column] = max(pass.total[start + column], pass.weights[column])
          }
        case .share:
          table.share_tile(
            pass.tile, height, count, rows.fold,
            UnsafeMutableRawPointer(pass.weights) + index * height * width * table.weight_bytes,
            pass.maxima + index * height, pass.sums + index * height)
        }
      }
    }
  }

  /// Puts the rows together, so many at a time, whose weights or maxima `pass` computes.
  private func foldRows(
    _ rows: ScoredRows, _ ranking: ChunkRanking, _ scratch: Scratch,
    pass: (_ first: Int, _ height: Int, FirstPass) -> Void
  ) {
    let panel = Int(IHP_PANEL)
    let tiles = (rows.columns + panel - 1) / panel
    let most = min(rows.count, Self.rankedRows)
    let width = panel / rows.fold
    let padded = tiles * width
    let memory = FirstPass(
      tile: scratch.take(most * panel), weights: scratch.take(most * padded),
      maxima: scratch.take(most * tiles), sums: scratch.take(most * tiles), tiles: tiles,
      total: scratch.take(padded))
    memory.total.update(repeating: ranking == .maximum ? -.infinity : 0, count: padded)
    for first in stride(from: 0, to: rows.count, by: most) {
      let height = min(most, rows.count - first)
      pass(first, height, memory)
      if ranking == .share {
        table.share_add(
          memory.weights, height, tiles, width, memory.maxima, memory.sums, memory.total)
      }
    }
    rows.total.update(from: memory.total, count: rows.columns / rows.fold)
  }
}
