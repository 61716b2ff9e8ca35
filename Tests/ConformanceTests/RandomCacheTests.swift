// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPBench
import HiPCPU
import HiPCompute
import HiPModels
import HiPTensors
import Testing

/// What benchmarks stand on: random caches, and the bytes that a token has to load there.
@Suite struct RandomCacheTests {
  private let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 32)

  private func format(_ pruning: HierarchicalPruning? = nil) -> KVFormat {
    KVFormat(
      layerCount: 2, shape: shape, element: .float16, sketches: pruning?.sketches ?? [])
  }

  @Test func randomKeysAreSelectedAndAttendedLikeThoseOfAPrompt() throws {
    let backend = try CPUBackend(threads: 2)
    let pruning = HierarchicalPruning.infiniteHiP
    let cache = SequenceCache(
      store: backend.makeStore(format(pruning)), blocks: SharedBlocks(capacity: 1 << 30))
    try cache.appendRandom(5000, seed: 3, on: backend)
    #expect(cache.length == 5000)
    let queries = try backend.makeTensor(
      .values((0..<128).map { Float($0 % 7) - 3 }), element: .float32, rows: 1, columns: 4 * 32)
    let input = AttentionInput(
      queries: queries, shape: shape, start: 4999, table: cache.table,
      rotary: RotaryEmbedding(base: 10_000, dimensions: 32), trainedLength: 8192)
    let state = cache.selection
    backend.select(
      SelectCall(layer: 1, batch: [.init(input: input, pruning: pruning.fine, state: state)]))
    let blocks = state.download(layer: 1, shape: shape, pruning: pruning.fine).blocks
    #expect(blocks.allSatisfy { $0[0].count == 256 })
    let output = try backend.makeTensor(.zeros, element: .float32, rows: 1, columns: 4 * 32)
    backend.attend(
      AttendCall(
        layer: 1,
        batch: [.init(input: input, reach: .selected(pruning.fine, state), output: output)]))
    backend.sample(SampleCall(logits: output, items: [.init(rows: 0..<1, request: .logits)]))
    guard case .logits(let values)? = try backend.submit().results.first else {
      Issue.record("no output")
      return
    }
    #expect(values.allSatisfy { $0.isFinite } && values.contains { $0 != 0 })
  }

  @Test func bytesLoadedAreThoseOfWhatIsAttendedAndScored() throws {
    func bytes(_ name: String, _ depth: Int) throws -> Int {
      let choice = try #require(AttentionChoice.named(name))
      var pruning: HierarchicalPruning?
      if case .hierarchical(let value) = choice.policy { pruning = value }
      return format(pruning).bytesRead(byTokenAt: depth, choice, trainedLength: 8192)
    }
    // Two layers of two heads, rows of 64 bytes.
    #expect(try bytes("dense", 10_000) == 4 * 10_000 * 2 * 64)
    #expect(try bytes("auto", 8000) == 4 * 8000 * 2 * 64)
    #expect(try bytes("streaming", 100_000) == 4 * 3328 * 2 * 64)
    // Every 64 tokens means of 68 bytes a chunk of 98,784 candidates, every 16 32,768 keys, every 4 8,192.
    let selected = 98_784 / 8 * 68 / 64 + 32_768 * 64 / 16 + 8192 * 64 / 4
    #expect(try bytes("infinitehip", 100_000) == 4 * (3264 * 2 * 64 + selected))
    // Every 4 tokens means of 98,720 candidates, every 2 32,768 keys of 20 bytes, always 4,096 of 64.
    let pruning = try HierarchicalPruning(
      reach: StreamingWindow(sink: 256, window: 1024),
      stages: [
        PruningStage(chunkSize: 8, keep: 32768, refreshInterval: 4, estimate: .means),
        PruningStage(chunkSize: 8, keep: 4096, refreshInterval: 2, estimate: .fourBit),
        PruningStage(chunkSize: 8, keep: 2048, estimate: .exact),
      ],
      scoring: .init(sharing: .group, ranking: .share, positions: .infllm)
    )
    let scored = 98_720 / 8 * 68 / 4 + 32_768 * 20 / 2 + 4096 * 64
    #expect(
      format(pruning).bytesRead(
        byTokenAt: 100_000, AttentionChoice(name: "test", policy: .hierarchical(pruning)),
        trainedLength: 8192) == 4 * (scored + 3328 * 2 * 64))
    // Its three first layers are dense, and there are only two here.
    #expect(try bytes("hip", 10_000) == 4 * 10_000 * 2 * 64)
  }
}
