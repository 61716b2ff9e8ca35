// SPDX-License-Identifier: Apache-2.0

import FakeCUDA
import HiPAttention
import HiPCUDA
import HiPCompute
import HiPKVStore
import HiPTensors
import Testing

extension CUDATests {
  /// What a device of attention enqueues and holds; what comes of it, the conformance suite says on a GPU.
  @Suite struct BackendTests {
    private let shape = AttentionShape(heads: 8, kvHeads: 2, headSize: 128)
    private let pruning = HierarchicalPruning.infiniteHiPForGPUs.fine

    private func backend(_ machine: FakeMachine) throws -> CUDABackend {
      try CUDABackend(
        CUDALibrary(driver: machine.driver(), compiler: machine.compiler()), kernels: .tuned,
        cacheFolder: nil)
    }

    /// Sequences of so many keys in one store.
    private struct Sequences {
      let backend: CUDABackend
      let store: any KVStore
      let tables: [any DeviceBlockTable]
      let blocks: [BlockID]
      let queries: DeviceTensor
      let output: DeviceTensor
      let shape: AttentionShape

      init(
        _ backend: CUDABackend, _ shape: AttentionShape, lengths: [Int], policy: HierarchicalPruning
      )
        throws
      {
        self.backend = backend
        self.shape = shape
        store = backend.makeStore(
          KVFormat(layerCount: 1, shape: shape, element: .float16, sketches: policy.sketches))
        let counts = lengths.map { ($0 + 63) / 64 }
        blocks = (0..<counts.reduce(0, +)).map { BlockID(index: $0) }
        try store.provide(blocks)
        var next = 0
        tables = [store.makeTable(), store.makeTable(), store.makeTable()].prefix(lengths.count)
          .map { $0 }
        for (table, count) in zip(tables, counts) {
          for place in 0..<count {
            table.set(place: place, to: blocks[next])
            next += 1
          }
        }
        let columns = shape.heads * shape.headSize
        queries = try backend.makeTensor(
          .zeros, element: .float16, rows: lengths.count, columns: columns)
        output = try backend.makeTensor(
          .zeros, element: .float16, rows: lengths.count, columns: columns)
      }

      func input(_ index: Int, position: Int) -> AttentionInput {
        AttentionInput(
          queries: queries.rows(index..<index + 1), shape: shape, start: position,
          table: tables[index], rotary: nil, trainedLength: .max)
      }

      func step(
        _ pruning: HierarchicalPruning, _ states: [any SelectionState], positions: [Int]
      ) throws {
        let inputs = positions.indices.map { input($0, position: positions[$0]) }
        backend.select(
          SelectCall(
            layer: 0,
            batch: inputs.indices.map {
              .init(input: inputs[$0], pruning: pruning, state: states[$0])
            }))
        backend.attend(
          AttendCall(
            layer: 0,
            batch: inputs.indices.map {
              .init(
                input: inputs[$0], reach: .selected(pruning, states[$0]),
                output: output.rows($0..<$0 + 1))
            }))
        _ = try backend.submit()
      }
    }

    private func launches(_ machine: FakeMachine) -> [String] {
      machine.takeLog().filter { $0.contains("<") }
    }

    @Test func aSelectionAndItsAttentionAreOneLaunch() throws {
      let machine = FakeMachine()
      machine.declareAttention()
      try withExtendedLifetime(try backend(machine)) { backend in
        let sequences = try Sequences(backend, shape, lengths: [9000], policy: pruning)
        let states = [sequences.store.makeSelectionState()]
        try sequences.step(pruning, states, positions: [8999])
        _ = machine.takeLog()
        try sequences.step(pruning, states, positions: [8999])
        let log = launches(machine)
        #expect(log.map { $0.contains("decodeOnce") } == [true], "\(log)")
        // Somebody looks first: the selection is made for itself.
        let item = SelectCall.Item(
          input: sequences.input(0, position: 8999), pruning: pruning, state: states[0])
        backend.select(SelectCall(layer: 0, batch: [item]))
        #expect(launches(machine).isEmpty)
        _ = states[0].download(layer: 0, shape: shape, pruning: pruning)
        #expect(launches(machine).contains { $0.contains("decodeOnce") })
        // What it reads is about to change.
        backend.select(SelectCall(layer: 0, batch: [item]))
        sequences.tables[0].removeLast(1)
        #expect(launches(machine).contains { $0.contains("decodeOnce") })
        _ = try backend.submit()
      }
      machine.expectClean()
    }

    @Test func aDecodingStepAllocatesNothing() throws {
      let machine = FakeMachine()
      machine.declareAttention()
      try withExtendedLifetime(try backend(machine)) { backend in
        let sequences = try Sequences(
          backend, shape, lengths: [9000, 5000, 700], policy: pruning)
        let states = sequences.tables.map { _ in sequences.store.makeSelectionState() }
        try sequences.step(pruning, states, positions: [8000, 4000, 600])
        let before = backend.counters.allocations
        for step in 1...50 {
          try sequences.step(pruning, states, positions: [8000 + step, 4000 + step, 600 + step])
        }
        #expect(backend.counters.allocations == before)
      }
      machine.expectClean()
    }

    @Test func memoryIsBackWhenSequencesGo() throws {
      let machine = FakeMachine()
      machine.declareAttention()
      try withExtendedLifetime(try backend(machine)) { backend in
        func run() throws {
          let sequences = try Sequences(
            backend, shape, lengths: [3000, 2000], policy: pruning)
          let states = sequences.tables.map { _ in sequences.store.makeSelectionState() }
          try sequences.step(pruning, states, positions: [2999, 1999])
          try sequences.step(pruning, [states[0]], positions: [2999])
          for block in sequences.blocks { sequences.store.discard(block) }
        }
        for _ in 0..<3 { try run() }
        let before = try backend.settledMemory()
        for _ in 0..<100 { try run() }
        let after = try backend.settledMemory()
        #expect(after.bufferCount == before.bufferCount)
        #expect(after.reservedByteCount == before.reservedByteCount)
      }
      machine.expectClean()
    }

    @Test func aStepThatFailsIsVoidAndTheNextOneIsNot() throws {
      let machine = FakeMachine(memory: 64 << 20)
      machine.declareAttention()
      try withExtendedLifetime(try backend(machine)) { backend in
        let sequences = try Sequences(backend, shape, lengths: [2000], policy: pruning)
        let states = [sequences.store.makeSelectionState()]
        let error = try computeError {
          try sequences.store.provide((1000..<30_000).map { BlockID(index: $0) })
        }
        guard case .outOfMemory = error.code else {
          Issue.record("\(error)")
          return
        }
        try sequences.step(pruning, states, positions: [1999])
      }
      machine.expectClean()
    }
  }
}
