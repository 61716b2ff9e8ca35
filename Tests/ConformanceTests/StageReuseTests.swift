// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import HiPModels
import HiPTensors
import TestSupport
import Testing

/// Decoding from cached stages, on the backend's own calls.
@Suite struct StageReuseTests {
  private let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 32)

  @Test(arguments: [HierarchicalPruning.infiniteHiP, .paper3K])
  func recomputingFromAnyCachedStageGivesTheSameBlocks(_ preset: HierarchicalPruning) throws {
    let layer = Layer(queries: 1, keys: 9000, shape: shape, seed: 8)
    let decoding = try Decoding(
      keys: layer.keys, shape: shape, preset, rotary: RotaryEmbedding(base: 10_000, dimensions: 32),
      on: CPUBackend(threads: 2))
    let full = try decoding.select(layer.queries, from: .grid)
    let last = try #require(preset.stages.last)
    #expect(full.blocks.allSatisfy { $0[0].count == last.keep / last.chunkSize })
    for stage in 1..<preset.stages.count {
      let again = try decoding.select(layer.queries, from: .resume(stage: stage))
      #expect(again == full, "from stage \(stage)")
    }
  }

  /// Tokens that go on from what the first one's stages have kept, each with a query of its own.
  @Test(arguments: TestedBackend.available)
  func laterTokensSelectLikeTheReference(_ tested: TestedBackend) throws {
    func sum(_ votes: PassageVotes) -> Float {
      votes.ranked(.max, end: 1500).reduce(0) { $0 + $1.votes }
    }
    var blocks = CommonBlocks()
    let rotary = RotaryEmbedding(base: 10_000, dimensions: 32)
    for (sharing, stages, from) in [
      (
        HeadSharing.group,
        [
          PruningStage(chunkSize: 8, keep: 400, refreshInterval: 8, estimate: .means),
          PruningStage(chunkSize: 8, keep: 160, refreshInterval: 8, estimate: .fourBit),
          PruningStage(chunkSize: 8, keep: 80, estimate: .exact),
        ], 2
      ),
      (
        .head,
        [
          PruningStage(chunkSize: 32, keep: 256, refreshInterval: 8, estimate: .exact),
          PruningStage(chunkSize: 16, keep: 128, refreshInterval: 4, estimate: .exact),
          PruningStage(chunkSize: 8, keep: 48, refreshInterval: 4, estimate: .exact),
        ], 1
      ),
    ] {
      let pruning = try HierarchicalPruning(
        reach: StreamingWindow(sink: 64, window: 64), stages: stages,
        scoring: .init(sharing: sharing, ranking: .share, positions: .infllm)
      ).focusing(Focus(passage: 8, keep: 48, answer: 1))
      let layer = Layer(queries: 4, keys: 1500, shape: shape, seed: 11, for: tested)
      let decoding = try Decoding(
        keys: layer.keys, shape: shape, pruning, rotary: rotary, on: tested.make(),
        keeping: tested.storedType)
      var earlier: ReferenceSelection.Earlier?
      for token in 0..<4 {
        let width = shape.heads * shape.headSize
        let query = Array(layer.queries[token * width..<(token + 1) * width])
        let reference = ReferenceSelection(
          ReferenceAttention(
            queries: query, keys: layer.keys, values: layer.keys, shape: shape, rotary: rotary,
            trainedLength: 8192))
        let expected = reference.select(rows: 0..<1, pruning, from: earlier)
        let found = try decoding.select(
          query, from: token == 0 ? .grid : .resume(stage: from), report: .votes(7))
        blocks.add(
          found, BlockSelection(blockSize: 8, blocks: expected.blocks.map { [$0] }),
          "\(sharing), token \(token)")
        // Shares are those of all mass, whichever stage has found them.
        let votes = try #require(try decoding.backend.submit().votes[7])
        var all = PassageVotes(try #require(pruning.focus), sink: 64)
        for (blocks, shares) in zip(expected.blocks, expected.shares) {
          all.count(blocks, shares: shares.map(Float.init))
        }
        let (own, best) = (sum(votes), sum(all))
        #expect(abs(own - best) < 0.02, "\(sharing), token \(token): \(own), \(best)")
        // What the first token's stages have kept stays; later ones go on from it.
        let trace = earlier?.trace ?? expected.trace[from]
        earlier = .init(stage: from, trace: trace)
      }
    }
    #expect(blocks.share >= tested.blocksInCommon, "\(blocks)")
  }

  /// What leaves the window before the first stage is computed anew is among its candidates by then.
  @Test(arguments: TestedBackend.available, [1, 8, 20, 64])
  func candidatesReachAsFarAsTheirListIsReused(_ tested: TestedBackend, _ interval: Int) throws {
    let (window, count) = (128, 903)
    let pruning = try HierarchicalPruning(
      reach: StreamingWindow(sink: 64, window: window),
      stages: [
        PruningStage(chunkSize: 8, keep: 1600, refreshInterval: interval, estimate: .means),
        PruningStage(chunkSize: 8, keep: 1600, estimate: .exact),
      ],
      scoring: .init(sharing: .group, ranking: .share, positions: .infllm))
    let layer = Layer(queries: 1, keys: count, shape: shape, seed: 13, for: tested)
    let decoding = try Decoding(
      keys: layer.keys, shape: shape, pruning,
      rotary: RotaryEmbedding(base: 10_000, dimensions: 32),
      on: tested.make(), keeping: tested.storedType)
    let blocks = try decoding.select(layer.queries, from: .grid).blocks[0][0]
    // Where the window of the last token begins that takes this list.
    let begin = count + interval - 1 - window
    let last = try #require(blocks.last)
    #expect(Int(last) + 8 >= begin && Int(last) < begin + 8)
    #expect(blocks == (0..<Int32(blocks.count)).map { 64 + 8 * $0 })
    // Those in the window are ranked with the others, as the reference does it.
    let few = try pruning.changed(keep: 160)
    let found = try Decoding(
      keys: layer.keys, shape: shape, few, rotary: RotaryEmbedding(base: 10_000, dimensions: 32),
      on: tested.make(), keeping: tested.storedType
    ).select(layer.queries, from: .grid)
    let expected = ReferenceSelection(
      ReferenceAttention(
        queries: layer.queries, keys: layer.keys, values: layer.keys, shape: shape,
        rotary: RotaryEmbedding(base: 10_000, dimensions: 32))
    ).select(rows: 0..<1, few, reach: few.gridReach)
    var common = CommonBlocks()
    common.add(
      found, BlockSelection(blockSize: 8, blocks: expected.blocks.map { [$0] }), "\(interval)")
    #expect(common.share >= tested.blocksInCommon, "\(common)")
  }

  /// A question and the tokens of its answer, which select among passages and vote.
  @Test(arguments: TestedBackend.available)
  func selectionsAmongPassagesAreThoseOfTheReference(_ tested: TestedBackend) throws {
    var blocks = CommonBlocks()
    let rotary = RotaryEmbedding(base: 10_000, dimensions: 32)
    // More keys than are selected among them; as many or fewer, which are all attended.
    for (sharing, keep) in [(HeadSharing.group, 160), (.head, 160), (.group, 80), (.group, 48)] {
      let pruning = try HierarchicalPruning(
        reach: StreamingWindow(sink: 64, window: 64),
        stages: [
          PruningStage(chunkSize: 8, keep: 400, refreshInterval: 8, estimate: .means),
          PruningStage(chunkSize: 8, keep: 80, estimate: .exact),
        ],
        scoring: .init(sharing: sharing, ranking: .share, positions: .infllm)
      ).focusing(Focus(passage: 16, keep: keep, answer: 64))
      let layer = Layer(queries: 4, keys: 1500, shape: shape, seed: 12, for: tested)
      let decoding = try Decoding(
        keys: layer.keys, shape: shape, pruning, rotary: rotary, on: tested.make(),
        keeping: tested.storedType)
      let width = shape.heads * shape.headSize
      func reference(_ queries: [Float]) -> ReferenceSelection {
        ReferenceSelection(
          ReferenceAttention(
            queries: queries, keys: layer.keys, values: layer.keys, shape: shape, rotary: rotary))
      }
      // Looking everywhere.
      let everywhere = reference(layer.queries).select(rows: 0..<4, pruning)
      var passages = try decoding.passages(keep: keep, of: layer.queries)
      // Votes differ in the last bits; passages that they tell apart by less may change places.
      let focus = try #require(pruning.focus)
      var votes = PassageVotes(focus, sink: 64)
      let heads = stride(from: 0, to: shape.heads, by: sharing == .group ? shape.groupSize : 1)
      for head in heads {
        votes.count(everywhere.blocks[head], shares: everywhere.shares[head].map(Float.init))
      }
      let expected = votes.best(keep: keep, end: 1500 - 4)
      #expect(passages.starts.count == keep / 16)
      // All in float32; rounding to bfloat16 may let passages change places.
      #expect(Set(passages.starts).intersection(expected.starts).count >= keep / 16 * 4 / 5)
      passages = expected
      // The question once more, then a token behind it.
      for rows in [0..<4, 2..<3] {
        let queries = Array(layer.queries[rows.lowerBound * width..<rows.upperBound * width])
        let found = try decoding.select(queries, from: .among(passages))
        let now = reference(queries).select(rows: 0..<rows.count, pruning, within: passages)
        let expected = BlockSelection(blockSize: 8, blocks: now.blocks.map { [$0] })
        if keep > 80 {
          blocks.add(found, expected, "\(sharing), rows \(rows)")
        } else {
          #expect(found.blocks == expected.blocks && found.blocks[0][0].count == keep / 8)
        }
        let all = Set(passages.chunks(of: 8))
        #expect(found.blocks.joined().joined().allSatisfy { all.contains($0) })
      }
    }
    #expect(blocks.share >= tested.blocksInCommon, "\(blocks)")
  }

  /// One layer in which the last token, with changing queries, selects.
  private struct Decoding {
    let backend: any AttentionBackend
    let cache: SequenceCache
    let pruning: HierarchicalPruning
    let rotary: RotaryEmbedding?
    let shape: AttentionShape
    let keyCount: Int

    init(
      keys: [Float], shape: AttentionShape, _ pruning: HierarchicalPruning,
      rotary: RotaryEmbedding?, on backend: any AttentionBackend, keeping type: KVType = .f16
    ) throws {
      self.backend = backend
      let format = KVFormat(
        layerCount: 1, shape: shape, element: type.element, sketches: pruning.sketches)
      cache = SequenceCache(
        store: backend.makeStore(format), blocks: SharedBlocks(capacity: 1 << 30))
      self.pruning = pruning
      self.rotary = rotary
      self.shape = shape
      keyCount = keys.count / (shape.kvHeads * shape.headSize)
      try cache.reserve(keyCount)
      let rows = try tensor(keys, rows: keyCount)
      backend.append(
        AppendCall(
          layer: 0, projections: (nil, rows, rows), order: .halves,
          rotaryDimensions: shape.headSize,
          batch: [SequenceRows(rows: 0..<keyCount, start: 0, table: cache.table)]))
    }

    private func tensor(_ values: [Float], rows: Int) throws -> DeviceTensor {
      try backend.makeTensor(
        .values(values), element: .float32, rows: rows, columns: values.count / rows)
    }

    /// A selection by queries at the last positions.
    func select(
      _ queries: [Float], from source: SelectCall.Source, report: SelectCall.Report = .nothing
    ) throws -> BlockSelection {
      let rows = queries.count / (shape.heads * shape.headSize)
      let input = AttentionInput(
        queries: try tensor(queries, rows: rows), shape: shape, start: keyCount - rows,
        table: cache.table, rotary: rotary, trainedLength: 8192)
      let item = SelectCall.Item(
        input: input, pruning: pruning, source: source, state: cache.selection, report: report)
      backend.select(SelectCall(layer: 0, batch: [item]))
      return cache.selection.download(layer: 0, shape: shape, pruning: pruning)
    }

    /// The passages that queries draw on which attend everywhere.
    func passages(keep: Int, of queries: [Float]) throws -> Passages {
      _ = try select(queries, from: .grid, report: .votes(7))
      let votes = try #require(try backend.submit().votes[7])
      cache.selection.clear()
      return votes.best(keep: keep, end: keyCount - queries.count / (shape.heads * shape.headSize))
    }
  }
}
