// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCUDA
import HiPCompute
import HiPModels
import HiPTensors
import InfiniteHiP
import TestSupport
import Testing

/// What a GPU holds, and what it says when there is no more.
@Suite(.serialized, .enabled(if: !TestedBackend.gpus.isEmpty)) struct GPUMemoryTests {
  private let shape = AttentionShape(heads: 8, kvHeads: 2, headSize: 64)

  private func backend(_ tested: TestedBackend) throws -> CUDABackend {
    try #require(try tested.make() as? CUDABackend)
  }

  @Test(arguments: TestedBackend.gpus)
  func memoryIsBackAfterAThousandCalls(_ tested: TestedBackend) throws {
    let backend = try backend(tested)
    let policies: [AttentionPolicy] = [
      .dense, .hierarchical(.infiniteHiPForGPUs), .hierarchical(.infiniteHiP),
      .heavyHitters(try HeavyHitters(recent: 64, heavy: 64)),
    ]
    func run(_ count: Int) throws {
      for call in 0..<count {
        let layer = Layer(
          queries: call % 3 == 0 ? 1 : 40, keys: 100 + call % 5 * 150, shape: shape, seed: 1,
          for: tested)
        _ = try layer.run(
          policies[call % policies.count], on: backend, keeping: tested.kvType,
          rotary: call % 2 == 0 ? nil : RotaryEmbedding(base: 10_000, dimensions: 64))
      }
    }
    // Kernels are loaded, and working memory has its size.
    try run(60)
    let before = try backend.settledMemory()
    try run(1000)
    let after = try backend.settledMemory()
    #expect(after.reservedByteCount == before.reservedByteCount)
    #expect(after.bufferCount == before.bufferCount)
    #expect(after.pinnedByteCount == before.pinnedByteCount)
    // What was given back before is taken again, once, and nothing for each call.
    #expect(after.allocations - before.allocations < 200)
  }

  @Test func fullMemoryIsAnErrorAndTheDeviceGoesOn() throws {
    let tested = try #require(TestedBackend.gpus.last)
    let backend = try backend(tested)
    let format = KVFormat(layerCount: 1, shape: shape, element: .float16, sketches: [])
    let cache = SequenceCache(
      store: backend.makeStore(format), blocks: SharedBlocks(capacity: .max))
    do {
      // 2^40 bytes of keys alone.
      try cache.reserve(1 << 32)
      Issue.record("nothing was thrown")
    } catch {
      guard case .outOfMemory = error.code else {
        Issue.record("\(error)")
        return
      }
      #expect(error.message.contains("MB"))
    }
    let layer = Layer(queries: 3, keys: 300, shape: shape, seed: 2, for: tested)
    let result = try layer.run(.dense, on: backend, keeping: tested.kvType, rotary: nil)
    expectClose(result.output, layer.reference(nil).run(.dense), within: tested.tolerance)
  }
}
