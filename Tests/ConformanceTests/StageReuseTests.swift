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
    let preset = preset.follows ? try preset.following(false) : preset
    let layer = Layer(queries: 1, keys: 9000, shape: shape, seed: 8)
    let decoding = try Decoding(
      keys: layer.keys, shape: shape, preset, rotary: RotaryEmbedding(base: 10_000, dimensions: 32),
      on: CPUBackend(threads: 2))
    let full = try decoding.select(layer.queries, firstStage: 0)
    #expect(full.blocks.allSatisfy { $0[0].count == 256 })
    for stage in 1..<preset.stages.count {
      let again = try decoding.select(layer.queries, firstStage: stage)
      #expect(again == full, "from stage \(stage)")
    }
  }

  /// Tokens that go on from what the first one's stages have kept, each with a query of its own.
  @Test(arguments: TestedBackend.available, [true, false])
  func laterTokensSelectLikeTheReference(_ tested: TestedBackend, _ follows: Bool) throws {
    var blocks = CommonBlocks()
    let rotary = RotaryEmbedding(base: 10_000, dimensions: 32)
    for (sharing, stages, from) in [
      (
        HeadSharing.group,
        [
          PruningStage(chunkSize: 8, keep: 400, refreshInterval: 8, estimate: .moments),
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
      ).following(follows).sharpened(by: 0.5)
      let layer = Layer(queries: 4, keys: 1500, shape: shape, seed: 11)
      let decoding = try Decoding(
        keys: layer.keys, shape: shape, pruning, rotary: rotary, on: tested.make())
      var earlier: ReferenceSelection.Earlier?
      for token in 0..<4 {
        let width = shape.heads * shape.headSize
        let query = Array(layer.queries[token * width..<(token + 1) * width])
        let reference = ReferenceSelection(
          ReferenceAttention(
            queries: query, keys: layer.keys, values: layer.keys, shape: shape, rotary: rotary,
            trainedLength: 8192))
        let expected = reference.select(rows: 0..<1, pruning, from: earlier)
        let found = try decoding.select(query, firstStage: token == 0 ? 0 : from)
        blocks.add(
          found, BlockSelection(blockSize: 8, blocks: expected.blocks.map { [$0] }),
          "\(sharing), token \(token)")
        let held = try #require(found.held)
        #expect(held.count == shape.heads)
        for (a, b) in zip(held, expected.held) { #expect(abs(Double(a[0]) - b) < 0.02) }
        // What the first token's stages have kept stays; later ones go on from it.
        let trace = earlier?.trace ?? expected.trace[from]
        earlier = .init(stage: from, trace: trace, selected: expected.blocks)
      }
    }
    #expect(blocks.share >= tested.blocksInCommon, "\(blocks)")
  }

  /// An answer that is copied from a text: each token looks for the block behind the one before, which
  /// looked like nothing when the first stage was computed.
  @Test(arguments: [true, false])
  func whatLiesBehindTheSelectionIsFoundWhenThePolicyFollows(_ follows: Bool) throws {
    let shape = AttentionShape(heads: 1, kvHeads: 1, headSize: 32)
    let pruning = try HierarchicalPruning(
      reach: StreamingWindow(sink: 64, window: 64),
      stages: [
        PruningStage(chunkSize: 16, keep: 32, refreshInterval: 8, estimate: .exact),
        PruningStage(chunkSize: 8, keep: 8, estimate: .exact),
      ],
      scoring: .init(sharing: .group, ranking: .share, positions: .infllm)
    ).following(follows)
    var numbers = SeededNumbers(9)
    var keys = numbers.normals(2000 * 32).map { $0 / 10 }
    // Blocks from 512 on, each along a direction of its own and away from the first one's.
    for token in 0..<5 {
      for key in 512 + token * 8..<520 + token * 8 {
        if token > 1 { keys[key * 32] = -1 }
        keys[key * 32 + token] = 3
      }
    }
    let decoding = try Decoding(
      keys: keys, shape: shape, pruning, rotary: nil, on: CPUBackend(threads: 2))
    for token in 0..<5 {
      var query = [Float](repeating: 0, count: 32)
      query[token] = 20
      let blocks = try decoding.select(query, firstStage: token == 0 ? 0 : 1).blocks[0][0]
      // The first two share a chunk of the first stage.
      #expect((blocks == [Int32(512 + token * 8)]) == (follows || token < 2), "\(token): \(blocks)")
    }
  }

  /// One layer in which the last token, with changing queries, selects.
  private struct Decoding {
    let backend: any ComputeBackend
    let cache: SequenceCache
    let pruning: HierarchicalPruning
    let rotary: RotaryEmbedding?
    let shape: AttentionShape
    let keyCount: Int
    let state: any SelectionState

    init(
      keys: [Float], shape: AttentionShape, _ pruning: HierarchicalPruning,
      rotary: RotaryEmbedding?, on backend: any ComputeBackend
    ) throws {
      self.backend = backend
      let layout = KVLayout(
        layerCount: 1, shape: shape, element: .float16, sketches: pruning.sketches)
      cache = SequenceCache(pool: CachePool(backend: backend, layout: layout))
      self.pruning = pruning
      self.rotary = rotary
      self.shape = shape
      state = backend.makeSelectionState()
      keyCount = keys.count / (shape.kvHeads * shape.headSize)
      try cache.reserve(keyCount)
      let rows = try tensor(keys, rows: keyCount)
      backend.append(
        AppendCall(
          projections: (nil, rows, rows), order: .halves, rotaryDimensions: shape.headSize,
          into: cache.view(layer: 0), start: 0))
    }

    private func tensor(_ values: [Float], rows: Int) throws -> DeviceTensor {
      let tensor = DeviceTensor(
        buffer: try backend.makeBuffer(byteCount: values.count * 4), element: .float32, rows: rows,
        columns: values.count / rows)
      backend.write(values, to: tensor)
      return tensor
    }

    func select(_ query: [Float], firstStage: Int) throws -> BlockSelection {
      let input = AttentionInput(
        queries: try tensor(query, rows: 1), shape: shape, start: keyCount - 1,
        cache: cache.view(layer: 0), rotary: rotary, trainedLength: 8192)
      backend.select(
        SelectCall(input: input, pruning: pruning, firstStage: firstStage, state: state))
      return state.download(shape: shape, pruning: pruning)
    }
  }
}
