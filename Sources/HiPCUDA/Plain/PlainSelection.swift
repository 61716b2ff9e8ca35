// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
package import HiPCompute
internal import HiPTensors

/// Chunks that a stage starts from, or has kept, on the device.
private struct Candidates {
  /// `[list][stride]`; nil: a grid.
  var starts: CUDABuffer?
  /// `[list]`; nil: `count` in each.
  var counts: CUDABuffer?
  /// `[list]`; nil: 1.
  var held: CUDABuffer?
  /// As `starts`; nil where no stage has chosen.
  var shares: CUDABuffer?
  /// Elements from one list to the next; 0: one list serves all.
  var stride = 0
  /// The most entries of a list.
  var count = 0
  /// Chunks that an entry is cut into.
  var parts = 1
  /// Rows of queries that a list serves.
  var rows = 0
}

/// The selection of one sequence in one layer, as it is computed.
private struct Selecting {
  let item: SelectCall.Item
  let keys: PlainKeys
  let owners: Int

  init(_ item: SelectCall.Item, _ keys: PlainKeys) {
    self.item = item
    self.keys = keys
    owners = item.pruning.sharing.owners(item.input.shape)
  }

  var pruning: HierarchicalPruning { item.pruning }
  var shape: AttentionShape { item.input.shape }
  var rowCount: Int { item.input.queries.rows }
  var blockCount: Int { (rowCount + pruning.queryBlock - 1) / pruning.queryBlock }

  /// The stages that are computed.
  var stages: Range<Int> {
    let count = pruning.stages.count
    return switch item.source {
    case .grid: 0..<count
    case .resume(let stage): stage..<count
    case .among: max(0, count - 1)..<count
    }
  }

  var passages: Passages? {
    if case .among(let passages) = item.source { passages } else { nil }
  }

  /// Length that the grid reaches to; nil: that of each range of queries.
  var fixedLength: Int? {
    if case .fixed(let length) = item.gridLength { length } else { nil }
  }

  func rows(of stage: PruningStage) -> Int { pruning.queryBlock * stage.queryBlocks }

  /// Sets of heads that are scored apart: the halving search takes its own path for each head.
  func sets(_ stage: PruningStage) -> Int {
    switch stage.estimate {
    case .halving: shape.heads
    case .tree: owners
    case .means, .exact, .fourBit: pruning.sharing == .head ? shape.heads : shape.kvHeads
    }
  }

  /// Chunks of the grid for queries whose rows end before `end`.
  func gridCount(endingAt end: Int) -> Int {
    let size = pruning.stages[0].chunkSize
    // A decoding step's list is reused while keys leave the window.
    let length = fixedLength ?? item.input.start + end + pruning.gridReach
    return (max(0, length - pruning.sink - pruning.window) + size - 1) / size
  }

  /// The most chunks that a stage starts from, and keeps: no more than there are, whatever the policy allows.
  func counts(
    _ selection: LayerSelection
  ) -> [(most: Int, kept: Int)] {
    var result: [(most: Int, kept: Int)] = []
    for index in stages {
      let stage = pruning.stages[index]
      let most: Int
      if let passages {
        most = passages.starts.count * (passages.size / stage.chunkSize)
      } else if let before = result.last {
        most = before.kept * (pruning.stages[index - 1].chunkSize / stage.chunkSize)
      } else if index == 0 {
        most = gridCount(endingAt: rowCount)
      } else {
        let input =
          selection.stageInputs.indices.contains(index) ? selection.stageInputs[index] : nil
        most =
          (input?.capacity ?? 0) * (pruning.stages[index - 1].chunkSize / stage.chunkSize)
      }
      result.append((most, min(most, stage.keep / stage.chunkSize)))
    }
    return result
  }

  /// Rows that a head has in a range, and numbers of one set of heads.
  func rowCapacity(_ stage: PruningStage, rows: Int) -> Int {
    (min(rows, rowCount) + stage.queryStride - 1) / stage.queryStride
  }
}

extension PlainKernels {
  /// Scratch memory of a selection that is aimed at: of as many blocks of queries at a time.
  static var scratchByteCount: Int { 256 << 20 }

  /// Runs the stages for some queries of one sequence and leaves what they select in its state.
  /// - Parameter votes: where a selection that votes is counted.
  package func select(
    _ item: SelectCall.Item, layer: Int, _ keys: PlainKeys, votes: PlainVotes,
    on stream: CUDAStream
  ) throws(ComputeError) {
    let work = Selecting(item, keys)
    let state = item.state.onCUDA
    guard work.rowCount > 0 else { return }
    state.layers[layer].scores = []
    if let first = work.pruning.stages.first {
      if first.estimate == .tree {
        try searchTree(work, first, &state.layers[layer], on: stream)
      } else {
        try run(work, &state.layers[layer], on: stream)
      }
    } else {
      try state.layers[layer].reserve(
        blocks: work.blockCount, owners: work.owners, capacity: 0, hasShares: false, memory,
        on: stream)
      if let counts = state.layers[layer].counts { try stream.fill(counts.all, with: 0) }
    }
    switch item.report {
    case .nothing: break
    case .scores: state.layers[layer].scores = try scores(work, on: stream)
    case .votes(let number):
      try votes.take(state.layers[layer], work.pruning, number: number, on: stream)
    }
  }

  // MARK: Stages

  private func run(
    _ work: Selecting, _ selection: inout LayerSelection, on stream: CUDAStream
  ) throws(ComputeError) {
    let pruning = work.pruning
    let counts = work.counts(selection)
    let last = counts.last?.kept ?? 0
    let hasShares = pruning.ranking == .share
    var given = Candidates()
    if let passages = work.passages {
      given.starts = try uploaded(passages.starts, on: stream)
      given.count = passages.starts.count
    } else if work.stages.lowerBound > 0 {
      guard selection.stageInputs.indices.contains(work.stages.lowerBound),
        let input = selection.stageInputs[work.stages.lowerBound]
      else {
        throw mistake("a selection goes on from a stage that was never computed")
      }
      given = Candidates(
        starts: input.starts, counts: input.counts, held: input.held, stride: input.capacity,
        count: input.capacity)
    }
    try selection.reserve(
      blocks: work.blockCount, owners: work.owners, capacity: last, hasShares: hasShares, memory,
      on: stream)
    // Blocks that share the first stage go together, as many of them at a time as scratch memory allows.
    let unit = work.rows(of: pruning.stages[work.stages.lowerBound])
    let unitByteCount = zip(work.stages, counts).map { index, count in
      byteCount(work, pruning.stages[index], most: count.most, kept: count.kept)
        * (unit / work.rows(of: pruning.stages[index]))
    }.reduce(0, +)
    // A grid has 65,535 blocks in its last dimensions at most.
    let together = unit * max(1, min(Self.scratchByteCount / max(1, unitByteCount), 4096))
    for first in stride(from: 0, to: work.rowCount, by: together) {
      let rows = first..<min(first + together, work.rowCount)
      var candidates = given
      for (index, count) in zip(work.stages, counts) {
        let stage = pruning.stages[index]
        candidates.rows = max(candidates.rows, work.rows(of: stage))
        if let passages = work.passages {
          candidates.parts = passages.size / stage.chunkSize
        } else if index > 0 {
          candidates.parts = pruning.stages[index - 1].chunkSize / stage.chunkSize
        } else {
          candidates.count = count.most
        }
        if work.rowCount == 1, index > work.stages.lowerBound, let starts = candidates.starts,
          let counts = candidates.counts, let held = candidates.held
        {
          selection.keep(
            LayerSelection.StageInput(
              starts: starts, counts: counts, held: held, capacity: candidates.stride),
            asInputOf: index)
        }
        candidates = try keep(
          work, index, of: candidates, rows: rows, most: count.most, kept: count.kept, on: stream)
      }
      try finish(candidates, work, rows: rows, &selection, on: stream)
    }
  }

  /// Bytes that a stage takes for a range of queries.
  private func byteCount(_ work: Selecting, _ stage: PruningStage, most: Int, kept: Int) -> Int {
    let shape = work.shape
    let rows = work.rowCapacity(stage, rows: work.rows(of: stage)) * shape.heads
    let tiles = scoringBlockCount(most, stage, work.pruning.pruningPositions, work.keys.element)
    return rows * shape.headSize * 16 + rows * (tiles + 1) * 16 + work.sets(stage) * most * 8
      + work.owners * kept * 8
  }

  /// What kernels are told of a stage, for the rows in `rows`.
  private func arguments(
    _ work: Selecting, _ index: Int, of candidates: Candidates, rows: Range<Int>, most: Int
  ) -> ihp_plain_stage {
    let pruning = work.pruning
    let stage = pruning.stages[index]
    let rangeRows = work.rows(of: stage)
    var arguments = ihp_plain_stage()
    arguments.list = ihp_plain_list(
      starts: candidates.starts?.address ?? 0, counts: candidates.counts?.address ?? 0,
      held: candidates.held?.address ?? 0, capacity: Int32(clamping: candidates.stride),
      count: Int32(clamping: candidates.count), parts: Int32(clamping: candidates.parts),
      ranges: Int32(max(1, candidates.rows / rangeRows)),
      grid_length: Int32(clamping: work.fixedLength ?? 0))
    arguments.first_row = Int32(clamping: rows.lowerBound)
    arguments.range_rows = Int32(clamping: rangeRows)
    arguments.ranges = Int32((rows.count + rangeRows - 1) / rangeRows)
    arguments.query_block = Int32(pruning.queryBlock)
    arguments.sink = Int32(clamping: pruning.sink)
    arguments.window = Int32(clamping: pruning.window)
    arguments.pruning_window = Int32(clamping: pruning.pruningWindow)
    arguments.candidate_distance = Int32(clamping: pruning.candidateDistance(in: stage))
    arguments.grid_reach = Int32(clamping: pruning.gridReach)
    arguments.chunk_size = Int32(stage.chunkSize)
    arguments.estimate = stage.estimate.kernelNumber
    arguments.keys_per_mean = Int32(stage.keysPerMean)
    arguments.scheme = pruning.pruningPositions.kernelNumber
    arguments.ranks_shares = pruning.ranking == .share ? 1 : 0
    arguments.takes_first = pruning.halving.representative == .first ? 1 : 0
    arguments.takes_final = pruning.halving.score == .final ? 1 : 0
    arguments.is_first = index == 0 ? 1 : 0
    arguments.query_stride = Int32(stage.queryStride)
    arguments.averages = stage.averagesQueries ? 1 : 0
    arguments.row_capacity = Int32(work.rowCapacity(stage, rows: rangeRows))
    arguments.owners = Int32(work.owners)
    arguments.sets = Int32(work.sets(stage))
    arguments.chunk_capacity = Int32(clamping: most)
    return arguments
  }

  /// Enqueues the scoring of a stage's chunks; the memory of their scores.
  private func score(
    _ work: Selecting, _ stage: PruningStage, _ arguments: inout ihp_plain_stage,
    _ input: ihp_plain_input, on stream: CUDAStream
  ) throws(ComputeError) -> CUDABuffer {
    let shape = work.shape
    let (element, query) = (work.keys.element, work.item.input.queries.element)
    let (ranges, sets) = (Int(arguments.ranges), Int(arguments.sets))
    let capacity = Int(arguments.row_capacity)
    let most = Int(arguments.chunk_capacity)
    let isTiled = scoresTiles(stage, work.pruning.pruningPositions, element)
    let tiles = scoringBlockCount(most, stage, work.pruning.pruningPositions, element)
    let real = realByteCount(element)
    let branches = stage.estimate == .halving ? 2 : 1
    func kernel(_ name: String) throws(ComputeError) -> CUDAKernel {
      try self.kernel(name, of: "plain_score.cu", element, query)
    }
    let rows = try memory.allocate(
      byteCount: branches * ranges * shape.heads * capacity * shape.headSize * real)
    let scores = try memory.allocate(byteCount: ranges * sets * most * 8)
    arguments.rows = rows.address
    arguments.scores = scores.address
    try kernel("plain_pool").launch(
      LaunchShape(
        grid: LaunchShape.Extent(capacity * shape.heads, ranges, branches),
        block: LaunchShape.Extent(32)), on: stream, input, arguments)
    let shapeOfScores = LaunchShape(
      grid: LaunchShape.Extent(tiles, sets, ranges),
      block: LaunchShape.Extent(isTiled ? 128 : 256),
      sharedByteCount: isTiled ? Self.scoringByteCount(shape) : real * tileSize(shape))
    if stage.estimate == .halving {
      try kernel("plain_halve").launch(shapeOfScores, on: stream, input, arguments)
      return scores
    }
    let scorer = isTiled ? try tileScorer(work.keys) : try kernel("plain_score")
    guard work.pruning.ranking == .share else {
      try scorer.launch(shapeOfScores, on: stream, input, arguments, Int32(IHP_PLAIN_MAXIMA))
      return scores
    }
    let rowCount = ranges * shape.heads * capacity
    let partials = try memory.allocate(byteCount: rowCount * tiles * 16)
    let masses = try memory.allocate(byteCount: rowCount * 8)
    arguments.partials = partials.address
    arguments.log_masses = masses.address
    try scorer.launch(shapeOfScores, on: stream, input, arguments, Int32(IHP_PLAIN_MASSES))
    try kernel("plain_sum").launch(
      LaunchShape(
        grid: LaunchShape.Extent(capacity * shape.heads / sets, sets, ranges),
        block: LaunchShape.Extent(32)), on: stream, input, arguments, Int32(tiles))
    try scorer.launch(shapeOfScores, on: stream, input, arguments, Int32(IHP_PLAIN_SHARES))
    // Kernels read it in the stream's order: whoever is handed this memory next comes behind them.
    withExtendedLifetime((rows, partials, masses)) {}
    return scores
  }

  /// What a stage keeps of its candidates, for the queries in `rows`.
  private func keep(
    _ work: Selecting, _ index: Int, of candidates: Candidates, rows: Range<Int>, most: Int,
    kept: Int, on stream: CUDAStream
  ) throws(ComputeError) -> Candidates {
    let stage = work.pruning.stages[index]
    let input = try input(
      work.item.input, rows: 0..<work.rowCount, work.keys, on: stream)
    var arguments = arguments(work, index, of: candidates, rows: rows, most: most)
    let lists = Int(arguments.ranges) * work.owners
    // Where everything stays there is nothing to score.
    let chooses = stage.proportion != nil || most > stage.keep / stage.chunkSize
    let scores =
      chooses && most > 0 ? try score(work, stage, &arguments, input, on: stream) : nil
    let result = Candidates(
      starts: try memory.allocate(byteCount: 4 * lists * kept),
      counts: try memory.allocate(byteCount: 4 * lists),
      held: try memory.allocate(byteCount: 4 * lists),
      shares: try memory.allocate(byteCount: 4 * lists * kept), stride: kept, count: kept,
      rows: work.rows(of: stage))
    arguments.chooses = chooses ? 1 : 0
    arguments.keep = Int32(clamping: stage.keep / stage.chunkSize)
    if let proportion = stage.proportion {
      arguments.keep_share = proportion.share
      arguments.keep_least = Int32(clamping: proportion.least / stage.chunkSize)
    }
    arguments.kept = result.starts?.address ?? 0
    arguments.kept_counts = result.counts?.address ?? 0
    arguments.kept_held = result.held?.address ?? 0
    arguments.kept_shares = result.shares?.address ?? 0
    arguments.kept_capacity = Int32(clamping: kept)
    try selectingKernel("plain_keep").launch(
      LaunchShape(
        grid: LaunchShape.Extent(work.owners, Int(arguments.ranges)),
        block: LaunchShape.Extent(1024)), on: stream, input, arguments)
    withExtendedLifetime(scores) {}
    return result
  }

  /// Leaves what the last stage has kept in the sequence's state.
  private func finish(
    _ candidates: Candidates, _ work: Selecting, rows: Range<Int>,
    _ selection: inout LayerSelection,
    on stream: CUDAStream
  ) throws(ComputeError) {
    let queryBlock = work.pruning.queryBlock
    let blocks = (rows.count + queryBlock - 1) / queryBlock
    let arguments = ihp_plain_finish(
      kept: candidates.starts?.address ?? 0, kept_counts: candidates.counts?.address ?? 0,
      kept_shares: candidates.shares?.address ?? 0,
      blocks_per_range: Int32(max(1, candidates.rows / queryBlock)),
      kept_capacity: Int32(clamping: candidates.stride), lists: selection.lists?.address ?? 0,
      counts: selection.counts?.address ?? 0, shares: selection.shares?.address ?? 0,
      max_blocks: Int32(clamping: selection.capacity),
      block_size: Int32(work.pruning.blockSize), owners: Int32(work.owners),
      first_block: Int32(rows.lowerBound / queryBlock), blocks: Int32(blocks),
      start: Int32(clamping: work.item.input.start), query_block: Int32(queryBlock))
    try selectingKernel("plain_finish").launch(
      LaunchShape(
        grid: LaunchShape.Extent(work.owners, blocks), block: LaunchShape.Extent(128)),
      on: stream, arguments)
  }

  // MARK: Reports

  /// The scores of the first stage's chunks.
  private func scores(
    _ work: Selecting, on stream: CUDAStream
  ) throws(ComputeError) -> [LayerSelection.ReportedScores] {
    guard let stage = work.pruning.stages.first, stage.estimate != .tree else { return [] }
    let rangeRows = work.rows(of: stage)
    let most = work.gridCount(endingAt: work.rowCount)
    let input = try input(work.item.input, rows: 0..<work.rowCount, work.keys, on: stream)
    let byteCount = byteCount(work, stage, most: most, kept: most)
    let together = rangeRows * max(1, min(Self.scratchByteCount / max(1, byteCount), 4096))
    var result: [LayerSelection.ReportedScores] = []
    for first in stride(from: 0, to: work.rowCount, by: together) {
      let rows = first..<min(first + together, work.rowCount)
      var candidates = Candidates(count: most)
      candidates.rows = rangeRows
      var arguments = arguments(work, 0, of: candidates, rows: rows, most: most)
      let scores =
        most > 0
        ? try score(work, stage, &arguments, input, on: stream)
        : try memory.allocate(byteCount: 0)
      let lists = Int(arguments.ranges) * work.owners
      if most > 0 {
        // Puts the sets of each owner together, and keeps all of them, which nobody wants.
        let kept = try memory.allocate(byteCount: 4 * lists * most)
        let shares = try memory.allocate(byteCount: 4 * lists * most)
        let counts = try memory.allocate(byteCount: 4 * lists)
        let held = try memory.allocate(byteCount: 4 * lists)
        arguments.chooses = 1
        arguments.keep = Int32(clamping: most)
        arguments.kept = kept.address
        arguments.kept_counts = counts.address
        arguments.kept_held = held.address
        arguments.kept_shares = shares.address
        arguments.kept_capacity = Int32(clamping: most)
        try selectingKernel("plain_keep").launch(
          LaunchShape(
            grid: LaunchShape.Extent(work.owners, Int(arguments.ranges)),
            block: LaunchShape.Extent(1024)), on: stream, input, arguments)
        withExtendedLifetime((kept, shares, counts, held)) {}
      }
      let starts = stride(from: rows.lowerBound, to: rows.upperBound, by: rangeRows).map { row in
        (0..<work.gridCount(endingAt: min(row + rangeRows, work.rowCount))).map {
          Int32(work.pruning.sink + $0 * stage.chunkSize)
        }
      }
      result.append(
        LayerSelection.ReportedScores(
          starts: starts, scores: scores, owners: work.owners, sets: work.sets(stage),
          capacity: most))
    }
    return result
  }

  // MARK: Tree

  /// The tree search of HiP.
  private func searchTree(
    _ work: Selecting, _ stage: PruningStage, _ selection: inout LayerSelection,
    on stream: CUDAStream
  ) throws(ComputeError) {
    let pruning = work.pruning
    let queryBlock = pruning.queryBlock
    let lastStart = work.item.input.start + (work.blockCount - 1) * queryBlock
    let most = max(0, lastStart - pruning.pruningWindow - pruning.sink) / stage.chunkSize
    let kept = max(1, min(stage.keep / stage.chunkSize, most))
    try selection.reserve(
      blocks: work.blockCount, owners: work.owners, capacity: kept, hasShares: false, memory,
      on: stream)
    let input = try input(work.item.input, rows: 0..<work.rowCount, work.keys, on: stream)
    let byteCount = byteCount(work, stage, most: 2 * kept, kept: 8 * kept)
    let together = queryBlock * max(1, min(Self.scratchByteCount / max(1, byteCount), 4096))
    for first in stride(from: 0, to: work.rowCount, by: together) {
      let rows = first..<min(first + together, work.rowCount)
      let lists = (rows.count + queryBlock - 1) / queryBlock * work.owners
      func numbers(_ count: Int) throws(ComputeError) -> CUDABuffer {
        try memory.allocate(byteCount: 4 * lists * count)
      }
      let starts = try numbers(2 * kept)
      let counts = try numbers(1)
      var halves = (before: try numbers(4 * kept), after: try numbers(4 * kept))
      let chosen = (
        starts: try numbers(kept), counts: try numbers(1), held: try numbers(1),
        shares: try numbers(kept), indices: try numbers(kept)
      )
      var split = ihp_plain_split(
        starts: starts.address, counts: counts.address, before: 0, after: 0, indices: 0,
        index_counts: chosen.counts.address, start: input.start,
        first_row: Int32(clamping: rows.lowerBound), range_rows: Int32(queryBlock),
        sink: Int32(clamping: pruning.sink),
        pruning_window: Int32(clamping: pruning.pruningWindow),
        chunk_size: Int32(stage.chunkSize), kept: Int32(clamping: kept),
        owners: Int32(work.owners), is_last: 0)
      func enqueue(isLast: Bool) throws(ComputeError) {
        split.before = halves.before.address
        split.after = halves.after.address
        split.is_last = isLast ? 1 : 0
        try selectingKernel("plain_split").launch(
          LaunchShape(
            grid: LaunchShape.Extent(work.owners, lists / work.owners),
            block: LaunchShape.Extent(256)), on: stream, split)
      }
      // Chunks of the widest branch; each round halves it.
      var width = (most + kept - 1) / kept
      while width > 1 {
        width = (width + 1) / 2
        try enqueue(isLast: false)
        split.indices = chosen.indices.address
        var arguments = arguments(
          work, 0,
          of: Candidates(
            starts: starts, counts: counts, stride: 2 * kept, count: 2 * kept, rows: queryBlock),
          rows: rows, most: 2 * kept)
        let scores = try score(work, stage, &arguments, input, on: stream)
        arguments.chooses = 1
        arguments.keep = Int32(clamping: kept)
        arguments.kept = chosen.starts.address
        arguments.kept_counts = chosen.counts.address
        arguments.kept_held = chosen.held.address
        arguments.kept_shares = chosen.shares.address
        arguments.kept_indices = chosen.indices.address
        arguments.kept_capacity = Int32(clamping: kept)
        try selectingKernel("plain_keep").launch(
          LaunchShape(
            grid: LaunchShape.Extent(work.owners, lists / work.owners),
            block: LaunchShape.Extent(1024)), on: stream, input, arguments)
        withExtendedLifetime(scores) {}
        halves = (halves.after, halves.before)
      }
      try enqueue(isLast: true)
      try finish(
        Candidates(starts: starts, counts: counts, stride: 2 * kept, rows: queryBlock), work,
        rows: rows, &selection, on: stream)
    }
  }
}
