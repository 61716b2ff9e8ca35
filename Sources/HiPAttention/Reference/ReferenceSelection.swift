// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The pruning stages as the specification says them: scalar, in double precision.
public struct ReferenceSelection {
  private let input: ReferenceAttention

  /// Selects for the queries and keys of `input`.
  public init(_ input: ReferenceAttention) { self.input = input }

  /// What one stage saw: its chunks and their scores per head, before heads share.
  public struct StageTrace: Sendable {
    /// First positions of the chunks, ascending: `[head][chunk]`.
    public var chunks: [[Int]]
    /// `[head][chunk]`; `inactiveScore` for a chunk that takes no part.
    public var scores: [[Double]]
    /// The share of the softmax mass that the stages before kept, `[head]`.
    public var held: [Double]
  }

  /// What a decoding step finds of earlier ones.
  public struct Earlier: Sendable {
    /// The first stage that is computed anew.
    public var stage: Int
    /// What that stage saw when the one before it was computed last.
    public var trace: StageTrace

    /// Stores the parts.
    public init(stage: Int, trace: StageTrace) {
      self.stage = stage
      self.trace = trace
    }
  }

  /// The score of a chunk that lies within the window.
  public static let inactiveScore = -32000.0

  /// The selected blocks for every block of queries.
  public func run(_ pruning: HierarchicalPruning) -> BlockSelection {
    var blocks = [[[Int32]]](repeating: [], count: input.shape.heads)
    for start in stride(from: 0, to: input.queryCount, by: pruning.queryBlock) {
      let rows = start..<min(start + pruning.queryBlock, input.queryCount)
      let selected = select(rows: rows, pruning)
      for head in blocks.indices { blocks[head].append(selected.blocks[head]) }
    }
    return BlockSelection(blockSize: pruning.blockSize, blocks: blocks)
  }

  /// The selection of one block of queries.
  public struct Selected: Sendable {
    /// First positions of the blocks, ascending, `[head][block]`.
    public var blocks: [[Int32]]
    /// By `share`, the part of the mass that each block holds, `[head][block]`.
    public var shares: [[Double]] = []
    /// What each stage saw.
    public var trace: [StageTrace] = []
  }

  /// Selects for one block of queries, going on from an earlier token's candidates, or by the last stage
  /// within some passages.
  /// - Parameter reach: how far the first stage's chunks reach into the window (`gridReach`, for a decoded token).
  public func select(
    rows: Range<Int>, _ pruning: HierarchicalPruning, from earlier: Earlier? = nil,
    within passages: Passages? = nil, reach: Int = 0
  ) -> Selected {
    let heads = input.shape.heads
    let pruning = pruning.resolved(at: input.firstPosition)
    guard let first = pruning.stages.first else {
      return Selected(blocks: [[Int32]](repeating: [], count: heads))
    }
    if first.estimate == .tree {
      return Selected(blocks: treeSearch(rows: rows, first, pruning))
    }
    let firstPosition = input.firstPosition + rows.lowerBound
    let span = max(0, input.keyCount + reach - pruning.sink - pruning.window)
    let count = (span + first.chunkSize - 1) / first.chunkSize
    var chunks = [[Int]](
      repeating: (0..<count).map { pruning.sink + $0 * first.chunkSize }, count: heads)
    var trace: [StageTrace] = []
    var held = [Double](repeating: 1, count: heads)
    var shares = [[Int: Double]](repeating: [:], count: heads)
    let firstStage = passages == nil ? earlier?.stage ?? 0 : pruning.stages.count - 1
    for (index, stage) in pruning.stages.enumerated() where index >= firstStage {
      if index == firstStage, earlier != nil || passages != nil {
        if let passages {
          chunks = chunks.map { _ in passages.chunks(of: stage.chunkSize).map(Int.init) }
        } else if let earlier {
          held = earlier.trace.held
          chunks = earlier.trace.chunks
        }
      } else if index > 0 {
        let size = pruning.stages[index - 1].chunkSize
        chunks = chunks.map { list in
          list.sorted().flatMap { start in
            stride(from: start, to: start + size, by: stage.chunkSize)
          }
        }
      }
      // The rows of all blocks that share the stage.
      let shared = stage.queryBlocks * pruning.queryBlock
      let from = rows.lowerBound / shared * shared
      let stageRows =
        stage.queryBlocks == 1 ? rows : from..<min(from + shared, input.queryCount)
      let lastCandidate = max(
        input.firstPosition + stageRows.lowerBound - pruning.candidateDistance(in: stage), 0)
      let limit = index == 0 ? input.keyCount - pruning.pruningWindow : Int.max
      var scores = (0..<heads).map { head in
        score(
          chunks[head], limit: limit, lastCandidate: lastCandidate, head: head, rows: stageRows,
          stage, pruning)
      }
      trace.append(StageTrace(chunks: chunks, scores: scores, held: held))
      share(&scores, pruning)
      for head in 0..<heads {
        let order = chunks[head].indices.sorted {
          scores[head][$0] != scores[head][$1] ? scores[head][$0] > scores[head][$1] : $0 < $1
        }
        let active = scores[head].count { $0 != Self.inactiveScore }
        // Where too few take part, the ones that follow fill up.
        let kept =
          stage.proportion == nil ? stage.keep / stage.chunkSize : stage.keptChunks(of: active)
        // Of each query's shares, which add up to 1.
        let queries = (stageRows.count + stage.queryStride - 1) / stage.queryStride
        let parts = order.prefix(min(kept, active)).map { index in
          (
            chunks[head][index],
            held[head] * scores[head][index] / Double(max(1, queries * headsTogether(pruning)))
          )
        }
        shares[head] = Dictionary(uniqueKeysWithValues: parts)
        held[head] = active == 0 ? 1 : parts.reduce(0) { $0 + $1.1 }
        chunks[head] = order.prefix(kept).map { chunks[head][$0] }
      }
    }
    let end = firstPosition + pruning.queryBlock
    let size = pruning.blockSize
    let blocks = chunks.map { list in
      Set(list.map { $0 / size * size }).filter { $0 < end }.sorted().map(Int32.init)
    }
    return Selected(
      blocks: blocks,
      shares: zip(blocks, shares).map { blocks, shares in blocks.map { shares[Int($0)] ?? 0 } },
      trace: trace)
  }

  private func headsTogether(_ pruning: HierarchicalPruning) -> Int {
    switch pruning.sharing {
    case .allHeads: input.shape.heads
    case .group: input.shape.groupSize
    case .head: 1
    }
  }

  private func share(_ scores: inout [[Double]], _ pruning: HierarchicalPruning) {
    let size = headsTogether(pruning)
    for start in stride(from: 0, to: scores.count, by: size) {
      let together = scores[start..<start + size]
      let shared = scores[start].indices.map { chunk in
        let column = together.map { $0[chunk] }
        if column[0] == Self.inactiveScore { return Self.inactiveScore }
        return pruning.ranking == .maximum ? column.max() ?? 0 : column.reduce(0, +)
      }
      for head in start..<start + size { scores[head] = shared }
    }
  }

  private func score(
    _ chunks: [Int], limit: Int, lastCandidate: Int, head: Int, rows: Range<Int>,
    _ stage: PruningStage, _ pruning: HierarchicalPruning
  ) -> [Double] {
    // The search scores the keys below the limit; the other estimates take whole chunks.
    let lastStart =
      stage.estimate == .halving
      ? limit - 1 : input.firstPosition + rows.upperBound - stage.chunkSize
    let active = chunks.indices.filter { chunks[$0] <= min(lastCandidate, lastStart) }
    var result = [Double](repeating: Self.inactiveScore, count: chunks.count)
    let queries = pooled(rows, head: head, listCount: chunks.count, stage, pruning)
    // Per chunk and query: the logarithm of the mass, or the best key's score.
    var perQuery: [[Double]] = []
    for index in active {
      let end = chunks[index] + stage.chunkSize
      let interval = chunks[index]..<(stage.estimate == .halving ? min(end, limit) : end)
      switch stage.estimate {
      case .halving:
        result[index] = halve(
          interval, lastStart: lastCandidate, queries, chunk: index, head: head, rows: rows,
          pruning)
      case .tree: preconditionFailure("the tree search scores no chunks of a list")
      case .means:
        perQuery.append(means(interval, of: stage.keysPerMean, queries, head: head))
      case .exact, .fourBit:
        perQuery.append(
          exact(
            interval, queries, chunk: index, head: head, rows: rows, stage.estimate, pruning))
      }
    }
    guard stage.estimate != .halving else { return result }
    for (slot, index) in active.enumerated() {
      switch pruning.ranking {
      case .maximum:
        result[index] = perQuery[slot].max() ?? 0
      case .share:
        result[index] = queries.indices.reduce(0) { sum, query in
          let total = logSumExp(perQuery.map { $0[query] })
          return sum + exp(perQuery[slot][query] - total)
        }
      }
    }
    return result
  }

  /// The query rows of a block as the stage sees them: rotated, then averaged, or one of several.
  private func pooled(
    _ rows: Range<Int>, head: Int, listCount: Int, _ stage: PruningStage,
    _ pruning: HierarchicalPruning
  ) -> [[Double]] {
    stride(from: rows.lowerBound, to: rows.upperBound, by: stage.queryStride).map { start in
      let end = min(start + stage.queryStride, rows.upperBound)
      let group = (stage.averagesQueries ? start : end - 1)..<end
      var mean = [Double](repeating: 0, count: input.shape.headSize)
      for row in group {
        let position = input.firstPosition + row
        let place =
          switch pruning.pruningPositions {
          // Sketches are of keys that are not rotated: all are seen as a right half is.
          case .relative:
            pruning.pruningWindow
              + (stage.estimate == .means || stage.estimate == .fourBit ? 0 : 1)
          case .chunkIndexed, .streaming, .spread: min(position, listCount + pruning.pruningWindow)
          case .infllm: pruning.pruningWindow
          case .absolute, .selfExtend, .dynamic: position
          }
        let rotated = input.rotated(input.query(row, head), by: place)
        for (element, value) in rotated.enumerated() {
          mean[element] += value / Double(group.count)
        }
      }
      return mean
    }
  }

  /// A key as the stage sees it; `branch` is 0 in a left half, 1 in a right one.
  private func key(
    _ position: Int, branch: Int, chunk: Int, head: Int, rows: Range<Int>,
    _ pruning: HierarchicalPruning
  ) -> ArraySlice<Double> {
    let place =
      switch pruning.pruningPositions {
      case .relative: branch
      case .chunkIndexed, .streaming, .spread: chunk
      case .infllm: 0
      case .absolute, .selfExtend, .dynamic:
        pruning.pruningPositions.position(
          ofKey: position, queries: input.positions(rows), trainedLength: input.trainedLength)
      }
    let kvHead = head / input.shape.groupSize
    return input.rotated(key: input.key(min(position, input.keyCount - 1), kvHead), by: place)
  }

  /// Best probe on the path of the halving search.
  private func halve(
    _ chunk: Range<Int>, lastStart: Int, _ queries: [[Double]], chunk index: Int, head: Int,
    rows: Range<Int>, _ pruning: HierarchicalPruning
  ) -> Double {
    var (left, right) = (chunk.lowerBound, chunk.upperBound)
    var best = -Double.infinity
    while true {
      let width = right - left
      let center = (left + right) / 2
      let places =
        pruning.halving.representative == .first
        ? [left, center] : [(left + center) / 2, (center + right) / 2]
      let probes = places.enumerated().map { branch, probe in
        let key = key(probe, branch: branch, chunk: index, head: head, rows: rows, pruning)
        return queries.map { dot($0[...], key) }.max() ?? 0
      }
      if probes[0] > probes[1] { right = center } else { left = center }
      best = pruning.halving.score == .final ? probes[1] : max(best, probes[0], probes[1])
      // A search that has moved into the window ends there.
      if width <= 1 || left > lastStart { return best }
    }
  }

  /// The tree search of HiP for one block of queries, `[head][block]`.
  private func treeSearch(
    rows: Range<Int>, _ stage: PruningStage, _ pruning: HierarchicalPruning
  ) -> [[Int32]] {
    let shape = input.shape
    let size = stage.chunkSize
    let end = input.firstPosition + rows.lowerBound - pruning.pruningWindow
    let count = max(0, end - pruning.sink) / size
    let kept = stage.keep / size
    let together = pruning.sharing == .group ? shape.groupSize : 1
    return (0..<shape.heads).map { head in
      let heads = head / together * together..<(head / together + 1) * together
      let queries = heads.flatMap { pooled(rows, head: $0, listCount: 0, stage, pruning) }
      func score(_ tile: Int) -> Double {
        let first = pruning.sink + tile * size
        return (first..<first + size).map { position in
          let key = key(position, branch: 1, chunk: 0, head: head, rows: rows, pruning)
          return queries.map { dot($0[...], key) }.max() ?? 0
        }.max() ?? 0
      }
      var branches =
        count <= kept
        ? (0..<count).map { $0..<$0 + 1 }
        : (0..<kept).map {
          (2 * $0 * count + kept) / (2 * kept)..<(2 * ($0 + 1) * count + kept) / (2 * kept)
        }
      while branches.contains(where: { $0.count > 1 }) {
        let halves = branches.flatMap { branch in
          let middle = branch.lowerBound + branch.count / 2
          return [branch.lowerBound..<middle, middle..<branch.upperBound].filter { !$0.isEmpty }
        }
        let scores = halves.map { score(($0.lowerBound + $0.upperBound) / 2) }
        let best = halves.indices.sorted {
          scores[$0] != scores[$1] ? scores[$0] > scores[$1] : $0 < $1
        }
        branches = best.prefix(kept).sorted().map { halves[$0] }
      }
      return branches.map { Int32(pruning.sink + $0.lowerBound * size) }
    }
  }

  /// Log of the mass per query, but for a constant, as the means of every `size` of the chunk's keys have it.
  private func means(
    _ chunk: Range<Int>, of size: Int, _ queries: [[Double]], head: Int
  ) -> [Double] {
    let kvHead = head / input.shape.groupSize
    let means = stride(from: chunk.lowerBound, to: chunk.upperBound, by: size).map { first in
      let keys = (first..<first + size).map { Array(input.key($0, kvHead)) }
      let mean = (0..<input.shape.headSize).map { e in
        keys.reduce(0) { $0 + $1[e] } / Double(size)
      }
      return EightBitMean(mean.map(Float.init)).values.map(Double.init)
    }
    return queries.map { query in logSumExp(means.map { dot(query[...], $0[...]) }) }
  }

  /// Log of the mass per query under `share`, the best key per query under `maximum`.
  private func exact(
    _ chunk: Range<Int>, _ queries: [[Double]], chunk index: Int, head: Int, rows: Range<Int>,
    _ estimate: ChunkEstimate, _ pruning: HierarchicalPruning
  ) -> [Double] {
    let keys = chunk.map { position in
      guard estimate == .fourBit else {
        return key(position, branch: 1, chunk: index, head: head, rows: rows, pruning)
      }
      // Not rotated: all are seen as a right half is.
      let key = input.key(position, head / input.shape.groupSize).map(Float.init)
      return FourBitKey(key).values.map(Double.init)[...]
    }
    return queries.map { query in
      let scores = keys.map { dot(query[...], $0) }
      return pruning.ranking == .maximum ? scores.max() ?? 0 : logSumExp(scores)
    }
  }

  private func logSumExp(_ values: [Double]) -> Double {
    let maximum = values.max() ?? 0
    return maximum + log(values.reduce(0) { $0 + exp($1 - maximum) })
  }
}
