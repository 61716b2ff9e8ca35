// SPDX-License-Identifier: Apache-2.0

import CHiPCUDA
import FakeCUDA
import HiPAttention
import HiPCUDA
import HiPCompute
import HiPKVStore
import HiPTensors
import Testing

extension CUDATests {
  /// Which kernels a policy launches, and with what.
  @Suite struct PlainKernelsTests {
    private let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 32)

    private final class Table: DeviceBlockTable {
      func set(place: Int, to block: BlockID) {}
      func removeLast(_ count: Int) {}
    }

    /// A machine that knows what the plain kernels take.
    private func machine() -> FakeMachine {
      let machine = FakeMachine()
      let input = MemoryLayout<ihp_plain_input>.stride
      let stage = MemoryLayout<ihp_plain_stage>.stride
      let evict = MemoryLayout<ihp_plain_evict>.stride
      for (name, sizes) in [
        ("plain_append", [MemoryLayout<ihp_plain_append>.stride]),
        ("plain_attend", [MemoryLayout<ihp_plain_attend>.stride]),
        ("plain_pool", [input, stage]), ("plain_score", [input, stage, 4]),
        ("score_tiles", [input, stage, 4]), ("plain_sum", [input, stage, 4]),
        ("plain_halve", [input, stage]),
        ("plain_keep", [input, stage]),
        ("plain_split", [MemoryLayout<ihp_plain_split>.stride]),
        ("plain_finish", [MemoryLayout<ihp_plain_finish>.stride]),
        ("plain_spread", [MemoryLayout<ihp_plain_spread>.stride]), ("plain_place", [evict]),
        ("plain_weigh", [evict]), ("plain_evict", [evict]),
      ] {
        fake_cuda_declare(name, sizes, sizes.count)
      }
      return machine
    }

    /// One layer of one sequence of 300 keys, and 70 queries at its end.
    private struct Rig {
      let stream: CUDAStream
      let memory: DeviceMemory
      let plain: PlainKernels
      let keys: PlainKeys
      let queries: DeviceTensor
      let output: DeviceTensor
      private let owned: [CUDABuffer]

      init(
        _ machine: FakeMachine, _ shape: AttentionShape, element: ElementType = .float32,
        usesMatrixUnits: Bool = false
      ) throws {
        let device = try machine.device()
        let memory = DeviceMemory(device)
        self.memory = memory
        stream = try CUDAStream(device)
        plain = PlainKernels(
          try machine.kernels(device), memory, usesMatrixUnits: usesMatrixUnits)
        let pools = try (0..<3).map { _ in try memory.allocate(byteCount: 5 * 64 * 64 * 4) }
        owned = pools
        keys = PlainKeys(
          keys: pools[0].address, values: pools[1].address, pages: pools[2].address, shape: shape,
          element: element)
        let tensors = try (0..<2).map { _ in
          DeviceTensor(
            buffer: try memory.allocate(byteCount: 70 * 128 * 4), element: .float32, rows: 70,
            columns: 128)
        }
        (queries, output) = (tensors[0], tensors[1])
      }

      func input(_ shape: AttentionShape, rotary: RotaryEmbedding? = nil) -> AttentionInput {
        AttentionInput(
          queries: queries, shape: shape, start: 230, table: Table(), rotary: rotary,
          trainedLength: 128)
      }
    }

    private func launches(_ machine: FakeMachine) -> [String] {
      machine.takeLog().filter { $0.hasPrefix("plain_") }.map { String($0.prefix { $0 != " " }) }
    }

    @Test func aSelectionRunsItsStagesWithoutTheHost() throws {
      let machine = machine()
      do {
        let rig = try Rig(machine, shape)
        let pruning = try HierarchicalPruning(
          reach: StreamingWindow(sink: 64, window: 64),
          stages: [
            PruningStage(chunkSize: 8, keep: 64, estimate: .means),
            PruningStage(chunkSize: 8, keep: 32, estimate: .exact),
          ], scoring: .init(sharing: .group, ranking: .share, positions: .infllm),
          attentionPositions: .spread)
        let state = CUDASelectionState(rig.memory, rig.stream, layerCount: 1)
        let item = SelectCall.Item(
          input: rig.input(shape, rotary: RotaryEmbedding(base: 10_000, dimensions: 32)),
          pruning: pruning, gridLength: .fixed(300), state: state)
        let votes = PlainVotes(rig.memory)
        try rig.plain.select(item, layer: 0, rig.keys, votes: votes, on: rig.stream)
        try rig.plain.attend(
          AttendCall.Item(
            input: item.input, reach: .selected(pruning, state), output: rig.output), layer: 0,
          rig.keys, on: rig.stream)
        #expect(machine.calls("cuStreamSynchronize") == 0)
        let stage = ["plain_pool", "plain_score", "plain_sum", "plain_score", "plain_keep"]
        #expect(
          launches(machine) == stage + stage + ["plain_finish", "plain_spread", "plain_attend"])
        let layer = state.layers[0]
        #expect((layer.blockCount, layer.ownerCount, layer.capacity) == (2, 2, 4))
        #expect(layer.lists?.byteCount == 4 * 2 * 2 * 4 && layer.shares?.byteCount == 4 * 2 * 2 * 4)
      }
      machine.expectClean()
    }

    @Test func matrixUnitsScoreKeysAsTheyAreStored() throws {
      let machine = machine()
      do {
        func select(
          _ positions: PositionScheme, _ ranking: ChunkRanking = .share,
          element: ElementType = .float16, usesMatrixUnits: Bool = true
        ) throws -> [String] {
          let rig = try Rig(machine, shape, element: element, usesMatrixUnits: usesMatrixUnits)
          let pruning = try HierarchicalPruning(
            reach: StreamingWindow(sink: 64, window: 64),
            stages: [PruningStage(chunkSize: 8, keep: 64, estimate: .exact)],
            scoring: .init(sharing: .group, ranking: ranking, positions: positions))
          let item = SelectCall.Item(
            input: rig.input(shape), pruning: pruning, gridLength: .fixed(300),
            state: CUDASelectionState(rig.memory, rig.stream, layerCount: 1))
          try rig.plain.select(
            item, layer: 0, rig.keys, votes: PlainVotes(rig.memory), on: rig.stream)
          return machine.takeLog().filter { $0.contains("score") }
        }
        // A thread block has all 22 chunks, for one of two blocks of queries and of two sets.
        let tiles = "score_tiles <1 2 2, 128 1 1, 25600>"
        #expect(try select(.infllm) == [tiles + " 0", tiles + " 1"])
        #expect(try select(.relative, .maximum, element: .bfloat16) == [tiles + " 2"])
        for plain in [
          try select(.infllm, usesMatrixUnits: false), try select(.infllm, element: .float32),
          try select(.dynamic),
        ] {
          #expect(plain.count == 2 && plain.allSatisfy { $0.hasPrefix("plain_score") })
        }
      }
      machine.expectClean()
    }

    @Test func matrixUnitsAttendToWhatIsRotated() throws {
      let machine = machine()
      fake_cuda_declare("attend_tiles", [MemoryLayout<ihp_attend_tiles>.stride], 1)
      fake_cuda_declare("merge_tiles", [MemoryLayout<ihp_attend_tiles>.stride], 1)
      fake_cuda_declare("fill_turns", [8, 4, 4, 8], 4)
      do {
        func attend(
          _ reach: AttendCall.Reach = .dense, element: ElementType = .float16, dimensions: Int = 32,
          usesMatrixUnits: Bool = true, times: Int = 1, rows: Int = 70
        ) throws -> [String] {
          let rig = try Rig(machine, shape, element: element, usesMatrixUnits: usesMatrixUnits)
          let rotary = RotaryEmbedding(base: 10_000, dimensions: dimensions)
          for _ in 0..<times {
            try rig.plain.attend(
              AttendCall.Item(
                input: AttentionInput(
                  queries: rig.queries.rows(0..<rows), shape: shape, start: 300 - rows,
                  table: Table(), rotary: rotary, trainedLength: 128), reach: reach,
                output: rig.output.rows(0..<rows)), layer: 0, rig.keys, on: rig.stream)
          }
          return machine.takeLog().filter { $0.contains("<") }.map {
            String($0.prefix { $0 != " " })
          }
        }
        // Angles are tabulated once.
        #expect(try attend(times: 2) == ["fill_turns", "attend_tiles", "attend_tiles"])
        #expect(
          try attend(.streaming(StreamingWindow(sink: 4, window: 32)), element: .bfloat16)
            == ["fill_turns", "attend_tiles"])
        // Two blocks of threads share the 300 keys of a single query.
        #expect(try attend(rows: 1) == ["fill_turns", "attend_tiles", "merge_tiles"])
        for plain in [
          try attend(usesMatrixUnits: false), try attend(element: .float32),
          // Pairs are rotated four at a time.
          try attend(dimensions: 12),
        ] {
          #expect(plain == ["plain_attend"])
        }
      }
      machine.expectClean()
    }

    @Test func everyOtherWayHasItsKernels() throws {
      let machine = machine()
      do {
        let rig = try Rig(machine, shape)
        let votes = PlainVotes(rig.memory)
        func select(_ stage: PruningStage, _ sharing: HeadSharing) throws -> [String] {
          let pruning = try HierarchicalPruning(
            reach: StreamingWindow(sink: 64, window: 64), stages: [stage],
            scoring: .init(sharing: sharing))
          let item = SelectCall.Item(
            input: rig.input(shape), pruning: pruning, gridLength: .fixed(300),
            state: CUDASelectionState(rig.memory, rig.stream, layerCount: 1))
          try rig.plain.select(item, layer: 0, rig.keys, votes: votes, on: rig.stream)
          return launches(machine)
        }
        #expect(
          try select(PruningStage(chunkSize: 8, keep: 32), .head)
            == ["plain_pool", "plain_halve", "plain_keep", "plain_finish"])
        #expect(
          try select(PruningStage(chunkSize: 8, keep: 32, estimate: .exact), .group)
            == ["plain_pool", "plain_score", "plain_keep", "plain_finish"])
        // Of no more chunks than it keeps a stage scores none.
        #expect(
          try select(PruningStage(chunkSize: 8, keep: 1_000_000), .head)
            == ["plain_keep", "plain_finish"])
        let round = ["plain_split", "plain_pool", "plain_score", "plain_keep"]
        #expect(
          try select(PruningStage(chunkSize: 2, keep: 32, estimate: .tree), .head)
            == round + round + round + ["plain_split", "plain_finish"])
        func attend(_ reach: AttendCall.Reach) throws -> [String] {
          try rig.plain.attend(
            AttendCall.Item(input: rig.input(shape), reach: reach, output: rig.output), layer: 0,
            rig.keys, on: rig.stream)
          return launches(machine)
        }
        #expect(try attend(.dense) == ["plain_attend"])
        #expect(
          try attend(.streaming(StreamingWindow(sink: 4, window: 32))) == ["plain_attend"])
        let state = CUDAHeavyHitterState(rig.memory, rig.stream, layerCount: 1)
        let block = ["plain_attend", "plain_place", "plain_weigh"]
        #expect(
          try attend(.heavyHitters(HeavyHitters(recent: 200, heavy: 94), state))
            == block + block + ["plain_evict"])
      }
      machine.expectClean()
    }

    @Test func rowsThatAreNotFiniteAreFetchedOnce() throws {
      let machine = machine()
      do {
        let rig = try Rig(machine, shape)
        let faults = try RowFaults(rig.memory, on: rig.stream)
        let rows = DeviceTensor(
          buffer: try rig.memory.allocate(byteCount: 70 * 64 * 4), element: .float32, rows: 70,
          columns: 64)
        let call = AppendCall(
          layer: 3, projections: (nil, rows, rows), order: .halves, rotaryDimensions: 32,
          batch: [SequenceRows(rows: 0..<70, start: 0, table: Table())])
        try rig.plain.append(
          call, call.batch[0], to: rig.keys, faults: faults, on: rig.stream)
        #expect(launches(machine) == ["plain_append"])
        // What the kernel would report: a count, then pairs of a row and a layer in any order.
        let reported: [Int32] = [3, 41, 3, 5, 3, 60, 2]
        fake_cuda_write(faults.address, reported, 4 * reported.count)
        try faults.fetch(on: rig.stream)
        #expect(faults.fetched.map(\.row) == [60, 5, 41])
        #expect(faults.fetched.map(\.layer) == [2, 3, 3])
        try faults.fetch(on: rig.stream)
        #expect(faults.fetched.isEmpty)
      }
      machine.expectClean()
    }
  }
}
