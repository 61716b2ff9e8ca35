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
    let backend = try CPUBackend(threads: 2)
    let layout = KVLayout(
      layerCount: 1, shape: shape, element: .float16, sketches: preset.sketches)
    let cache = SequenceCache(pool: CachePool(backend: backend, layout: layout))
    try cache.reserve(9000)
    func tensor(_ values: [Float], rows: Int) throws -> DeviceTensor {
      let tensor = DeviceTensor(
        buffer: try backend.makeBuffer(byteCount: values.count * 4), element: .float32, rows: rows,
        columns: values.count / rows)
      backend.write(values, to: tensor)
      return tensor
    }
    backend.append(
      AppendCall(
        projections: (
          nil, try tensor(layer.keys, rows: 9000), try tensor(layer.values, rows: 9000)
        ),
        order: .halves, rotaryDimensions: 32, into: cache.view(layer: 0), start: 0))
    let input = AttentionInput(
      queries: try tensor(layer.queries, rows: 1), shape: shape, start: 8999,
      cache: cache.view(layer: 0), rotary: RotaryEmbedding(base: 10_000, dimensions: 32),
      trainedLength: 8192)
    let state = backend.makeSelectionState()
    backend.select(SelectCall(input: input, pruning: preset, state: state))
    let full = state.download(shape: shape, pruning: preset)
    #expect(full.blocks.allSatisfy { $0[0].count == 256 })
    for stage in 1..<preset.stages.count {
      backend.select(SelectCall(input: input, pruning: preset, firstStage: stage, state: state))
      #expect(state.download(shape: shape, pruning: preset) == full, "from stage \(stage)")
    }
  }
}
