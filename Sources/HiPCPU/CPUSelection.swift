// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
public import HiPCompute

/// What a stage starts from, or keeps, for the queries that share a selection.
struct StageCandidates {
  /// First positions of chunks, ascending.
  var chunks: [Int32] = []
  /// The share of the softmax mass that they hold, as the stages so far estimate it; of a decoding step
  /// that goes on from an earlier token's candidates, for that token.
  var held: Float = 1
  /// The share of it that each chunk holds, once a stage has chosen between them.
  var shares: [Float] = []
}

/// The selection of one sequence in one layer.
struct SelectTask {
  let layer: Int
  let input: AttentionInput
  let pruning: HierarchicalPruning
  let source: SelectCall.Source
  let gridLength: SelectCall.GridLength

  init(_ item: SelectCall.Item, layer: Int) {
    self.layer = layer
    input = item.input
    pruning = item.pruning
    source = item.source
    gridLength = item.gridLength
  }

  /// The stages that are computed.
  var stages: Range<Int> {
    let count = pruning.stages.count
    return switch source {
    case .grid: 0..<count
    case .resume(let stage): stage..<count
    case .among: max(0, count - 1)..<count
    }
  }

  /// What the last stage selects from in place of what the ones before it keep.
  var passages: Passages? {
    if case .among(let passages) = source { passages } else { nil }
  }
}

extension CPUBackend {
  /// Per sequence, block of queries and owner, a set of heads that share a selection: score the chunks of each
  /// stage and keep the best.
  public func select(_ call: SelectCall) {
    for item in call.batch {
      selectionCount += 1
      let task = SelectTask(item, layer: call.layer)
      let state = item.state.onCPU
      select(task, &state.layers[call.layer])
      switch item.report {
      case .nothing: break
      case .scores: state.layers[call.layer].scores = scores(task)
      case .votes(let number):
        guard let focus = task.pruning.focus else { continue }
        state.layers[call.layer].count(
          into: &output.votes[number, default: PassageVotes(focus, sink: task.pruning.sink)])
      }
    }
  }

  private func select(_ call: SelectTask, _ state: inout LayerSelection) {
    let pruning = call.pruning
    let blocks = queryRanges(call, blocks: 1)
    let owners = pruning.sharing.ownerCount(call.input.shape)
    state.scores = []
    guard let first = pruning.stages.first else {
      state.blocks = .init(
        repeating: .init(repeating: [], count: owners), count: blocks.count)
      state.shares = []
      return
    }
    guard first.estimate != .tree else {
      state.blocks = searchTree(call, first, blocks: blocks, owners: owners)
      state.shares = []
      return
    }
    // [block * owners + owner]; what the first stage starts from is the grid, or passages.
    var kept = [StageCandidates](repeating: StageCandidates(), count: blocks.count * owners)
    if case .resume(let stage) = call.source { kept = state.stageInputs[stage] }
    let isDecoding = call.input.queries.rows == 1
    let stages = call.stages
    // Blocks that share the first stage go together where that leaves no thread idle.
    let items = queryRanges(call, blocks: first.queryBlocks).count * owners
    if first.queryBlocks == 1 || items >= pool.threadCount,
      stages.allSatisfy({ scoringSets(pruning.stages[$0], call) == owners })
    {
      kept = runTogether(stages, from: kept, call, &state)
    } else {
      for index in stages {
        if isDecoding, index > stages.lowerBound { state.keep(kept, asInputOf: index) }
        kept = run(stageAt: index, from: kept, call)
      }
    }
    let size = Int32(pruning.blockSize)
    state.blocks = blocks.indices.map { block in
      let end = Int32(call.input.start + (block + 1) * pruning.queryBlock)
      return (0..<owners).map { owner in
        kept[block * owners + owner].chunks.map { $0 / size * size }.filter { $0 < end }
      }
    }
    // A list that is cut short above loses its last blocks only.
    state.shares = blocks.indices.map { block in
      (0..<owners).map { kept[block * owners + $0].shares }
    }
  }

  /// The rows of every `blocks` blocks of queries.
  private func queryRanges(_ call: SelectTask, blocks: Int) -> [Range<Int>] {
    let (rows, size) = (call.input.queries.rows, blocks * call.pruning.queryBlock)
    return stride(from: 0, to: rows, by: size).map { $0..<min($0 + size, rows) }
  }

  /// Sets of heads that are scored apart: the halving search takes its own path for each head.
  private func scoringSets(_ stage: PruningStage, _ call: SelectTask) -> Int {
    let shape = call.input.shape
    return stage.estimate == .halving || call.pruning.sharing == .head
      ? shape.heads : shape.kvHeads
  }

  /// The blocks that share the first stage, and each owner, by themselves, on one thread from stage to
  /// stage.
  private func runTogether(
    _ stages: Range<Int>, from before: [StageCandidates], _ call: SelectTask,
    _ state: inout LayerSelection
  ) -> [StageCandidates] {
    let pruning = call.pruning
    let owners = pruning.sharing.ownerCount(call.input.shape)
    let together = pruning.stages[0].queryBlocks
    let groups = queryRanges(call, blocks: together)
    let blocks = queryRanges(call, blocks: 1)
    // No stage scores more keys than there are, whatever the one before may keep.
    let keys = gridCount(call, queries: groups[groups.count - 1]) * pruning.stages[0].chunkSize
    let lengths = stages.map { index in
      let size = pruning.stages[index].chunkSize
      return if let passages = call.passages {
        passages.starts.count * passages.size / size
      } else if index == 0 {
        keys / size
      } else {
        min(keys, pruning.stages[index - 1].keep) / size
      }
    }
    let longest = Scratch.size(lengths.max() ?? 0)
    let limits = stages.map { positionLimit(call, pruning.stages[$0], longest: longest) }
    let rotations = self.rotations(call.input.rotary, count: limits.max() ?? 0)
    guard selectionScores.reset(longest * pool.threadCount) else { return before }
    let scores = selectionScores.take(longest * pool.threadCount)
    let isDecoding = call.input.queries.rows == 1
    var results = before
    // What each stage starts from, [stage * items + item].
    var inputs = [StageCandidates](
      repeating: StageCandidates(), count: pruning.stages.count * before.count)
    results.withUnsafeMutableBufferPointer { results in
      inputs.withUnsafeMutableBufferPointer { inputs in
        // Each item writes its own elements.
        nonisolated(unsafe) let results = results
        nonisolated(unsafe) let inputs = inputs
        pool.runRising(groups.count * owners) { item, thread in
          let (group, owner) = item.quotientAndRemainder(dividingBy: owners)
          let scores = scores + thread * longest
          keyPanels(thread).drop()
          func kept(
            _ index: Int, of before: StageCandidates, _ queries: Range<Int>, last: Range<Int>? = nil
          ) -> StageCandidates {
            let list = chunks(ofStage: index, from: before, queries: queries, call)
            let stage = pruning.stages[index]
            var job = job(call, index, queries: queries, set: owner, of: owners, list, rotations)
            let all = StageCandidates(chunks: list, held: before.held)
            guard !keepsAll(stage, list, active: job.activeCount) else { return all }
            if let last {
              job.sharedCount =
                self.job(call, index, queries: last, set: owner, of: owners, list, rotations)
                .activeCount
            }
            score(job, into: scores, thread: thread)
            return self.kept(
              stage, of: all, UnsafeBufferPointer(start: scores, count: list.count),
              rowCount: job.rowCount)
          }
          let shared = stages.first == 0 ? kept(0, of: StageCandidates(), groups[group]) : nil
          let members = group * together..<min((group + 1) * together, blocks.count)
          for block in members {
            let item = block * owners + owner
            var list = shared ?? results[item]
            for index in stages.dropFirst(shared == nil ? 0 : 1) {
              if isDecoding { inputs[index * before.count + item] = list }
              list = kept(
                index, of: list, blocks[block],
                last: shared != nil && index == 1 ? blocks[members.upperBound - 1] : nil)
            }
            results[item] = list
          }
        }
      }
    }
    if isDecoding {
      for index in stages.dropFirst() {
        let first = index * before.count
        state.keep(Array(inputs[first..<first + before.count]), asInputOf: index)
      }
    }
    return results
  }

  /// First positions of the first stage's chunks for some queries.
  private func grid(_ call: SelectTask, queries: Range<Int>) -> [Int32] {
    let size = call.pruning.stages[0].chunkSize
    return (0..<gridCount(call, queries: queries)).map { Int32(call.pruning.sink + $0 * size) }
  }

  private func gridCount(_ call: SelectTask, queries: Range<Int>) -> Int {
    let size = call.pruning.stages[0].chunkSize
    // A decoding step's list is reused while keys leave the window.
    let reach = call.gridLength == .ownBlock ? call.pruning.gridReach : 0
    let length = gridLength(call, queries: queries) + reach
    let span = max(0, length - call.pruning.sink - call.pruning.window)
    return (span + size - 1) / size
  }

  private func gridLength(_ call: SelectTask, queries: Range<Int>) -> Int {
    switch call.gridLength {
    case .fixed(let length): length
    case .ownBlock: call.input.start + queries.upperBound
    }
  }

  private func split(_ chunks: [Int32], _ size: Int, into part: Int) -> [Int32] {
    var parts: [Int32] = []
    parts.reserveCapacity(chunks.count * (size / part))
    for start in chunks {
      for offset in stride(from: 0, to: size, by: part) { parts.append(start + Int32(offset)) }
    }
    return parts
  }

  /// What a stage scores, when the one before has kept `before`.
  private func chunks(
    ofStage index: Int, from before: StageCandidates, queries: Range<Int>, _ call: SelectTask
  ) -> [Int32] {
    let stages = call.pruning.stages
    let size = stages[index].chunkSize
    if let passages = call.passages { return passages.chunks(of: size) }
    guard index > 0 else { return grid(call, queries: queries) }
    return split(before.chunks, stages[index - 1].chunkSize, into: size)
  }

  /// Whether a stage has nothing to choose, `active` being the chunks that take part.
  private func keepsAll(_ stage: PruningStage, _ list: [Int32], active: Int) -> Bool {
    stage.proportion == nil
      ? list.count <= stage.keep / stage.chunkSize
      : active == list.count && stage.keptChunks(of: active) == active
  }

  /// What a stage keeps of candidates that `rowCount` queries of all heads together have scored.
  private func kept(
    _ stage: PruningStage, of candidates: StageCandidates, _ scores: UnsafeBufferPointer<Float>,
    rowCount: Int
  ) -> StageCandidates {
    var count = stage.keep / stage.chunkSize
    if stage.proportion != nil {
      count = stage.keptChunks(of: scores.count { $0 != Self.inactive })
    }
    let kept = indicesOfLargest(count, of: scores)
    // Each row's shares add up to 1. Of raw scores the sum says nothing, and nothing needs it.
    let shares = kept.map { scores[$0] == Self.inactive ? 0 : scores[$0] / Float(rowCount) }
    let held = shares.reduce(0, +)
    let isAnyActive = kept.contains { scores[$0] != Self.inactive }
    return StageCandidates(
      chunks: kept.map { candidates.chunks[$0] },
      held: isAnyActive ? candidates.held * min(1, held) : 1,
      shares: shares.map { $0 * candidates.held })
  }

  /// What one set of heads scores.
  private func job(
    _ call: SelectTask, _ index: Int, queries: Range<Int>, set: Int, of sets: Int,
    _ list: [Int32], _ rotations: Rotations
  ) -> ScoringJob {
    let size = call.input.shape.heads / sets
    return ScoringJob(
      call: call, stage: call.pruning.stages[index], queries: queries,
      heads: set * size..<(set + 1) * size, chunks: list,
      limit: index == 0 ? gridLength(call, queries: queries) - call.pruning.pruningWindow : .max,
      rotations: rotations)
  }

  /// Scores one stage's chunks and returns the kept ones, ascending, `[block * owners + owner]`.
  private func run(
    stageAt index: Int, from before: [StageCandidates], _ call: SelectTask
  ) -> [StageCandidates] {
    let stage = call.pruning.stages[index]
    let owners = call.pruning.sharing.ownerCount(call.input.shape)
    let ranges = queryRanges(call, blocks: stage.queryBlocks)
    let lists = (0..<ranges.count * owners).map { item in
      chunks(
        ofStage: index, from: index == 0 ? StageCandidates() : before[item],
        queries: ranges[item / owners], call)
    }
    let isAll =
      stage.proportion == nil && lists.allSatisfy { keepsAll(stage, $0, active: $0.count) }
    func all(_ item: Int) -> StageCandidates {
      StageCandidates(chunks: lists[item], held: index == 0 ? 1 : before[item].held)
    }
    let results =
      isAll
      ? lists.indices.map(all)
      : scored(stage, at: index, queries: ranges, lists: lists, call) { item, scores in
        let queries = (ranges[item / owners].count + stage.queryStride - 1) / stage.queryStride
        return kept(
          stage, of: all(item), scores, rowCount: queries * call.input.shape.heads / owners)
      }
    guard !results.isEmpty else { return before }
    return before.indices.map { item in
      results[item / owners / stage.queryBlocks * owners + item % owners]
    }
  }

  /// The scores of the first stage's chunks.
  private func scores(_ call: SelectTask) -> [ChunkScores] {
    let pruning = call.pruning
    guard let stage = pruning.stages.first, stage.estimate != .tree else { return [] }
    let owners = pruning.sharing.ownerCount(call.input.shape)
    let ranges = queryRanges(call, blocks: stage.queryBlocks)
    let lists = (0..<ranges.count * owners).map { grid(call, queries: ranges[$0 / owners]) }
    return scored(stage, at: 0, queries: ranges, lists: lists, call) { item, scores in
      ChunkScores(starts: lists[item], scores: Array(scores))
    }
  }

  /// Scores one stage's chunks, `[range of queries * owners + owner]`, puts the heads of an owner together, and
  /// hands each owner's to `use`, on several threads.
  private func scored<Result>(
    _ stage: PruningStage, at index: Int, queries: [Range<Int>], lists: [[Int32]],
    _ call: SelectTask, use: (_ item: Int, UnsafeBufferPointer<Float>) -> Result
  ) -> [Result] {
    let shape = call.input.shape
    let pruning = call.pruning
    let owners = pruning.sharing.ownerCount(shape)
    let sets = scoringSets(stage, call)
    let longest = lists.map(\.count).max() ?? 0
    let stride = Scratch.size(longest)
    let rotations = rotations(
      call.input.rotary, count: positionLimit(call, stage, longest: longest))
    guard selectionScores.reset(stride * queries.count * sets) else { return [] }
    let scores = selectionScores.take(stride * queries.count * sets)
    pool.runRising(queries.count * sets) { item, thread in
      let (range, set) = item.quotientAndRemainder(dividingBy: sets)
      let list = lists[range * owners + set * owners / sets]
      score(
        job(call, index, queries: queries[range], set: set, of: sets, list, rotations),
        into: scores + item * stride, thread: thread)
    }
    var results = [Result?](repeating: nil, count: lists.count)
    results.withUnsafeMutableBufferPointer { results in
      // Each item writes its own element.
      nonisolated(unsafe) let results = results
      pool.run(lists.count) { item, _ in
        let (range, owner) = item.quotientAndRemainder(dividingBy: owners)
        let list = lists[item]
        let total = scores + (range * sets + owner * sets / owners) * stride
        for set in 1..<max(1, sets / owners) {
          let other = total + set * stride
          switch pruning.ranking {
          case .maximum:
            for chunk in list.indices { total[chunk] = max(total[chunk], other[chunk]) }
          case .share:
            // Chunks that take no part do so in every set.
            for chunk in list.indices where total[chunk] != Self.inactive {
              total[chunk] += other[chunk]
            }
          }
        }
        results[item] = use(item, UnsafeBufferPointer(start: total, count: list.count))
      }
    }
    return results.compactMap { $0 }
  }

  /// One past the largest position that scoring rotates anything to.
  func positionLimit(_ call: SelectTask, _ stage: PruningStage, longest: Int) -> Int {
    let end = call.input.start + call.input.queries.rows
    return switch call.pruning.pruningPositions {
    // With no more positions than the window there are no candidates.
    case .relative, .infllm: min(call.pruning.pruningWindow, end) + 2
    case .chunkIndexed, .streaming, .spread: longest + min(call.pruning.pruningWindow, end) + 1
    case .absolute, .selfExtend, .dynamic: end
    }
  }
}
