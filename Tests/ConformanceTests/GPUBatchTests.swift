// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCUDA
import HiPCompute
import HiPModels
import HiPTensors
import InfiniteHiP
import TestSupport
import Testing

/// Several sequences in one call, and what the order of calls must not change, on the backend's own calls.
@Suite(.enabled(if: !TestedBackend.gpus.isEmpty)) struct GPUBatchTests {
  private let shape = AttentionShape(heads: 8, kvHeads: 2, headSize: 64)

  /// Sequences of different lengths in one store.
  private struct Sequences {
    let backend: any AttentionBackend
    let layers: [Layer]
    let caches: [SequenceCache]
    let sinks: DeviceTensor?
    let rowCounts: [Int]

    init(
      _ tested: TestedBackend, _ shape: AttentionShape, _ lengths: [Int], rows: [Int],
      sketches: [KeySketch], sinks: Bool = false
    ) throws {
      let backend = try tested.make()
      let store = backend.makeStore(
        KVFormat(
          layerCount: 1, shape: shape, element: tested.storedType.element, sketches: sketches))
      let blocks = SharedBlocks(capacity: 1 << 40)
      var caches: [SequenceCache] = []
      let layers = zip(lengths, rows).map { length, rows in
        Layer(queries: rows, keys: length, shape: shape, seed: UInt64(length), for: tested)
      }
      for layer in layers {
        let cache = SequenceCache(store: store, blocks: blocks)
        let count = layer.keys.count / (shape.kvHeads * shape.headSize)
        try cache.reserve(count)
        func tensor(_ values: [Float]) throws -> DeviceTensor {
          try backend.makeTensor(
            .values(values), element: .float32, rows: count, columns: values.count / count)
        }
        backend.append(
          AppendCall(
            layer: 0, projections: (nil, try tensor(layer.keys), try tensor(layer.values)),
            order: .halves, rotaryDimensions: shape.headSize,
            batch: [SequenceRows(rows: 0..<count, start: 0, table: cache.table)]))
        cache.advance([Int32](repeating: 0, count: count))
        caches.append(cache)
      }
      self.backend = backend
      self.layers = layers
      self.caches = caches
      rowCounts = rows
      self.sinks =
        sinks
        ? try backend.makeTensor(
          .values((0..<shape.heads).map { Float($0) / 2 }), element: .float32, rows: 1,
          columns: shape.heads) : nil
    }

    /// The queries of a sequence, and room for its outputs.
    func call(_ index: Int) throws -> (input: AttentionInput, output: DeviceTensor) {
      let (layer, rows) = (layers[index], rowCounts[index])
      let columns = layer.shape.heads * layer.shape.headSize
      let input = AttentionInput(
        queries: try backend.makeTensor(
          .values(layer.queries), element: .float32, rows: rows, columns: columns),
        shape: layer.shape, start: caches[index].length - rows, table: caches[index].table,
        rotary: nil, sinks: sinks, trainedLength: .max)
      return (
        input,
        try backend.makeTensor(.zeros, element: .float32, rows: rows, columns: columns)
      )
    }

    /// Selects and attends for sequences in one call each.
    func run(
      _ indices: [Int], _ policy: HierarchicalPruning?, attends: [Int]? = nil
    ) throws -> [[Float]] {
      let calls = try indices.map { try call($0) }
      let states = indices.map { _ in caches[0].store.makeSelectionState() }
      if let policy {
        backend.select(
          SelectCall(
            layer: 0,
            batch: indices.indices.map { index in
              SelectCall.Item(
                input: calls[index].input,
                pruning: calls[index].input.queries.rows == 1 ? policy.fine : policy,
                state: states[index])
            }))
      }
      for part in attends.map({ $0.map { [$0] } }) ?? [Array(indices.indices)] {
        backend.attend(
          AttendCall(
            layer: 0,
            batch: part.map { index in
              let (input, output) = calls[index]
              let pruning = policy.map { input.queries.rows == 1 ? $0.fine : $0 }
              return AttendCall.Item(
                input: input,
                reach: pruning.map { .selected($0, states[index]) } ?? .dense, output: output)
            }))
      }
      _ = try backend.submit()
      return try calls.map { try backend.download($0.output) }
    }
  }

  private func policy() throws -> HierarchicalPruning {
    var scan = PruningStage(chunkSize: 32, keep: 768, queryStride: 64, estimate: .means)
    scan.keysPerMean = 32
    var fine = scan
    fine.queryStride = 1
    let exact = PruningStage(chunkSize: 16, keep: 256, estimate: .exact)
    return try HierarchicalPruning(
      reach: StreamingWindow(sink: 64, window: 256), stages: [scan, exact],
      fineStages: [fine, exact],
      scoring: .init(sharing: .group, ranking: .share, positions: .infllm))
  }

  /// Together, alone, in another order, attended to one by one, with prompts among them: the same.
  @Test(arguments: TestedBackend.gpus, [false, true])
  func aBatchEqualsItsSequencesAlone(_ tested: TestedBackend, _ hasSinks: Bool) throws {
    let policy = try policy()
    let lengths = [3000, 70, 1500, 64, 2222, 1025, 5000, 300, 900]
    for rows in [[Int](repeating: 1, count: lengths.count), [1, 3, 1, 64, 1, 100, 1, 1, 1]] {
      let sequences = try Sequences(
        tested, shape, lengths, rows: rows, sketches: policy.sketches, sinks: hasSinks)
      let all = Array(lengths.indices)
      for policy in [policy, nil] {
        let alone = try all.map { try sequences.run([$0], policy)[0] }
        let together = try sequences.run(all, policy)
        let turned = try sequences.run(all.reversed(), policy).reversed()
        let apart = try sequences.run(all, policy, attends: all.reversed())
        for (index, expected) in alone.enumerated() {
          let name =
            "\(lengths[index]) keys, \(rows[index]) rows, \(policy == nil ? "dense" : "selected")"
          for found in [together[index], Array(turned)[index], apart[index]] {
            expectClose(found, expected.map(Double.init), within: tested.tolerance, name)
          }
        }
        #expect(Set(together.map { $0.prefix(8).map { $0 } }).count == lengths.count)
      }
    }
  }

  /// A selection is there for whoever asks, also when nobody attends to it.
  @Test(arguments: TestedBackend.gpus)
  func aSelectionIsThereWithoutAttention(_ tested: TestedBackend) throws {
    let policy = try policy().fine
    let sequences = try Sequences(tested, shape, [3000], rows: [1], sketches: policy.sketches)
    let input = try sequences.call(0).input
    let state = sequences.caches[0].store.makeSelectionState()
    let item = SelectCall.Item(input: input, pruning: policy, state: state)
    sequences.backend.select(SelectCall(layer: 0, batch: [item]))
    let found = state.download(layer: 0, shape: shape, pruning: policy)
    #expect(found.blocks.allSatisfy { $0.count == 1 && $0[0].count == 16 })
    // What is put in its place stays, whatever was waiting.
    sequences.backend.select(SelectCall(layer: 0, batch: [item]))
    let given = BlockSelection(
      blockSize: 16, blocks: .init(repeating: [[64, 128]], count: shape.heads))
    state.upload(given, layer: 0, shape: shape, pruning: policy)
    #expect(state.download(layer: 0, shape: shape, pruning: policy).blocks == given.blocks)
    sequences.backend.select(SelectCall(layer: 0, batch: [item]))
    state.clear()
    #expect(
      state.download(layer: 0, shape: shape, pruning: policy).blocks.allSatisfy { $0.isEmpty })
    _ = try sequences.backend.submit()
  }

  /// Stages that later tokens go on from are kept, by whichever kernels.
  @Test(arguments: TestedBackend.gpus)
  func stagesAreResumed(_ tested: TestedBackend) throws {
    var scan = PruningStage(chunkSize: 32, keep: 768, refreshInterval: 16, estimate: .means)
    scan.keysPerMean = 32
    let policy = try HierarchicalPruning(
      reach: StreamingWindow(sink: 64, window: 256),
      stages: [scan, PruningStage(chunkSize: 16, keep: 256, refreshInterval: 4, estimate: .exact)],
      scoring: .init(sharing: .group, ranking: .share, positions: .infllm))
    let sequences = try Sequences(tested, shape, [3000], rows: [1], sketches: policy.sketches)
    let input = try sequences.call(0).input
    let state = sequences.caches[0].store.makeSelectionState()
    func select(_ source: SelectCall.Source) -> BlockSelection {
      sequences.backend.select(
        SelectCall(
          layer: 0,
          batch: [.init(input: input, pruning: policy, source: source, state: state)]))
      return state.download(layer: 0, shape: shape, pruning: policy)
    }
    let first = select(.grid)
    #expect(first.blocks.allSatisfy { $0[0].count == 16 })
    #expect(select(.resume(stage: 1)) == first)
    _ = try sequences.backend.submit()
  }

  /// Numbers that the store cannot hold are reported with the step that brought them, and only then.
  @Test(arguments: TestedBackend.gpus)
  func rowsThatAreNotFiniteAreReported(_ tested: TestedBackend) throws {
    let backend = try tested.make()
    let format = KVFormat(
      layerCount: 1, shape: shape, element: tested.storedType.element, sketches: [])
    let cache = SequenceCache(
      store: backend.makeStore(format), blocks: SharedBlocks(capacity: 1 << 30))
    try cache.reserve(8)
    let width = shape.kvHeads * shape.headSize
    func append(_ values: [Float]) throws -> [StepOutput.RowFault] {
      let tensor = try backend.makeTensor(
        .values(values), element: .float32, rows: 4, columns: width)
      backend.append(
        AppendCall(
          layer: 0, projections: (nil, tensor, tensor), order: .halves,
          rotaryDimensions: shape.headSize,
          batch: [SequenceRows(rows: 0..<4, start: 0, table: cache.table)]))
      return try backend.submit().faults
    }
    var values = [Float](repeating: 1, count: 4 * width)
    #expect(try append(values).isEmpty)
    values[width + 5] = .nan
    // More than 16 bits hold with five of them for the exponent.
    values[3 * width] = 70_000
    let rows = Set(try append(values).map(\.row))
    #expect(rows == (tested.storedType == .f16 ? [1, 3] : [1]))
    #expect(try append(.init(repeating: 2, count: 4 * width)).isEmpty)
  }
}
