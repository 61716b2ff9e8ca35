// SPDX-License-Identifier: Apache-2.0

import CHiPCUDA
import FakeCUDA
import HiPAttention
import HiPCUDA
import HiPCompute
import HiPTensors
import Testing

extension CUDATests {
  /// What the tuned attention and selection enqueue; what the kernels compute, the conformance suite says on a GPU.
  @Suite struct AttentionLauncherTests {
    private static let map = Int(IHP_CU_TENSOR_MAP_BYTES)

    /// A machine that knows what the kernels take.
    private func machine(major: Int32 = 9) -> FakeMachine {
      let machine = FakeMachine(major: major)
      let map = Self.map
      fake_cuda_declare("append", [MemoryLayout<ihp_append>.stride], 1)
      fake_cuda_declare(
        "attentionPrefill", [MemoryLayout<ihp_prefill>.stride, map, map, map, map], 5)
      fake_cuda_declare("attentionDecode", [MemoryLayout<ihp_decode>.stride], 1)
      for name in [
        "scanSketches", "selectChunks", "scoreSurvivors", "attendSelected", "decodeOnce",
      ] {
        fake_cuda_declare(name, [MemoryLayout<ihp_select_decode>.stride], 1)
      }
      fake_cuda_declare("averageQueries", [MemoryLayout<ihp_select_prefill>.stride], 1)
      fake_cuda_declare("scanForSets", [MemoryLayout<ihp_select_prefill>.stride], 1)
      fake_cuda_declare("refineSets", [MemoryLayout<ihp_select_prefill>.stride, map], 2)
      fake_cuda_declare("mergeParts", [MemoryLayout<ihp_merge>.stride], 1)
      return machine
    }

    private static func plan(
      chunk: Int = 32, keep: Int = 25600, sharedBlocks: Int = 4
    ) throws -> SelectionPlan {
      var scan = PruningStage(
        chunkSize: chunk, keep: keep, queryStride: 64, estimate: .means)
      scan.keysPerMean = 32
      scan.queryBlocks = sharedBlocks
      let policy = try HierarchicalPruning(
        reach: StreamingWindow(sink: 256, window: 1024),
        stages: [
          scan, PruningStage(chunkSize: 16, keep: 2048, queryStride: 8, estimate: .exact),
        ],
        scoring: .init(sharing: .group, ranking: .share))
      return try #require(SelectionPlan(policy))
    }

    /// Everything that the launchers want, at addresses that nobody reads.
    private struct Call {
      let device: CUDADevice
      let memory: DeviceMemory
      let stream: CUDAStream
      let kernels: LoadedKernels
      let workspace: Workspace
      let keys: PagedKeys
      let shape: AttentionShape
      let rows = AttentionRows(queries: 1 << 20, outputs: 2 << 20)

      init(
        _ machine: FakeMachine,
        _ shape: AttentionShape = AttentionShape(heads: 32, kvHeads: 8, headSize: 128)
      ) throws {
        device = try machine.device()
        memory = DeviceMemory(device)
        stream = try CUDAStream(device)
        kernels = try machine.kernels(device)
        workspace = Workspace(memory)
        self.shape = shape
        keys = PagedKeys(
          keys: 3 << 20, values: 4 << 20, means: 5 << 20, meanScales: 6 << 20, pageCount: 4096,
          shape: shape, element: .bfloat16)
      }

      func tables(_ sequences: Int, pages: Int = 2048) -> SequenceTables {
        SequenceTables(
          pages: 7 << 20, stride: pages, keyCounts: 8 << 20, sequenceCount: sequences)
      }

      func lists(_ plan: SelectionPlan) -> SelectedBlocks {
        SelectedBlocks(
          blocks: 9 << 20, counts: 10 << 20, capacity: plan.fine.keep,
          blockKeys: plan.fine.chunkKeys)
      }
    }

    /// Enqueues one of everything for a batch.
    private func enqueueAll(_ call: Call, sequences: Int, plan: SelectionPlan) throws {
      let tables = call.tables(sequences)
      let runs = [
        QueryRun(sequence: 0, firstRow: 0, count: 600, position: 4000),
        QueryRun(sequence: sequences - 1, firstRow: 600, count: 100, position: 0),
      ]
      let lists = call.lists(plan)
      let (stream, keys, rows) = (call.stream, call.keys, call.rows)
      let append = AppendKernels(call.kernels, call.workspace)
      try append.append(
        newKeys: 1, newValues: 2, counts: .init(repeating: 65, count: sequences), to: keys, tables,
        rotation: .halves(.init(cosines: 3, sines: 4)), on: stream)
      try append.completeMeans(
        counts: .init(repeating: 1, count: sequences), of: keys, tables, on: stream)
      let prefill = PrefillAttention(call.kernels, call.workspace)
      try prefill.attend(rows, runs, over: keys, tables, reach: .dense, on: stream)
      try PrefillSelection(call.kernels, call.workspace).select(
        queries: rows.queries, runs, over: keys, tables, plan, into: lists, on: stream)
      let reach = Reach(sink: plan.sink, window: plan.window)
      try prefill.attend(rows, runs, over: keys, tables, reach: reach, selection: lists, on: stream)
      let decode = DecodeAttention(call.kernels, call.workspace)
      try decode.attend(rows, over: keys, tables, reach: .dense, on: stream)
      try decode.attend(rows, over: keys, tables, reach: reach, selection: lists, on: stream)
      let selection = DecodeSelection(call.kernels, call.workspace)
      try selection.run(rows, over: keys, tables, plan, into: lists, on: stream)
      var only = rows
      only.outputs = 0
      try selection.run(only, over: keys, tables, plan, into: lists, on: stream)
      try MergeKernels(call.kernels).merge(
        .init(outputs: 1, logSums: 2, count: 3, rowCount: 4), headSize: call.shape.headSize,
        .bfloat16, into: 5, on: stream)
    }

    @Test(arguments: [(9, 1), (9, 16), (8, 1), (8, 16)])
    func aSecondCallAllocatesAndUploadsNothing(major: Int, sequences: Int) throws {
      let machine = machine(major: Int32(major))
      do {
        let call = try Call(machine)
        // Small enough for what an A100 has of shared memory, too.
        let plan = try Self.plan(keep: 8192)
        try enqueueAll(call, sequences: sequences, plan: plan)
        let first = machine.takeLog().filter { $0.contains("<") }
        let (allocations, copies) = (
          call.memory.account.allocations, machine.calls("cuMemcpyHtoDAsync_v2")
        )
        let (maps, generation) = (
          machine.calls("cuTensorMapEncodeTiled"), call.workspace.generation
        )
        #expect(copies > 0)
        try enqueueAll(call, sequences: sequences, plan: plan)
        #expect(machine.takeLog() == first, "the same work, and nothing but that")
        #expect(call.memory.account.allocations == allocations)
        #expect(machine.calls("cuMemcpyHtoDAsync_v2") == copies)
        #expect(machine.calls("cuTensorMapEncodeTiled") == maps)
        #expect(call.workspace.generation == generation)
        // And so it can be captured.
        let graph = try call.stream.capture(keeping: call.workspace.owned) {
          () throws(ComputeError) in
          do { try enqueueAll(call, sequences: sequences, plan: plan) } catch {
            throw error as? ComputeError ?? ComputeError(.device, "\(error)")
          }
        }
        #expect(graph.nodeCount == first.count)
      }
      machine.expectClean()
    }

    @Test func fewSequencesAreServedByOneKernelAndManyByFour() throws {
      let machine = machine()
      do {
        let call = try Call(machine)
        let plan = try Self.plan()
        let selection = DecodeSelection(call.kernels, call.workspace)
        func names(_ sequences: Int, pages: Int = 2048) throws -> [String] {
          _ = machine.takeLog()
          try selection.run(
            call.rows, over: call.keys, call.tables(sequences, pages: pages), plan,
            into: call.lists(plan), on: call.stream)
          return machine.takeLog().filter { $0.contains("<") }
        }
        let one = try names(1)
        #expect(one.count == 1 && one[0].hasPrefix("decodeOnce <16 8 1, 512 1 1,"))
        #expect(one[0].hasSuffix("attribute 6: 1"), "it begins while the kernel before ends")
        let many = try names(16)
        #expect(
          many.map { $0.prefix { $0 != " " } } == [
            "scanSketches", "selectChunks", "scoreSurvivors", "attendSelected",
          ])
        #expect(many[0].hasPrefix("scanSketches <8 8 16, 256"))
        #expect(many[1].hasPrefix("selectChunks <2 8 16, 512"))
        #expect(many[1].contains("attribute 4: 2"))
        #expect(many[2].hasPrefix("scoreSurvivors <8 8 16, 512"))
        #expect(many[3].hasPrefix("attendSelected <1 8 16, 512"))
        // What does not fit one block's shared memory is ranked by clusters.
        let long = try names(1, pages: 1 << 18)
        #expect(long.count == 4 && long[1].hasPrefix("selectChunks <8 8 1, 512"))
        #expect(long[1].contains("attribute 4: 8"))
      }
      machine.expectClean()
    }

    @Test func onOlderGPUsNothingOverlapsAndNothingClusters() throws {
      let machine = machine(major: 8)
      do {
        let call = try Call(machine)
        try enqueueAll(call, sequences: 1, plan: try Self.plan(keep: 8192))
        let launches = machine.takeLog().filter { $0.contains("<") }
        #expect(launches.count > 8)
        #expect(launches.allSatisfy { !$0.contains("attribute") })
      }
      machine.expectClean()
    }

    @Test func tilesOfQueriesCoverEachOnceAndCrossNoBlock() throws {
      for group in [1, 3, 4, 8, 16] {
        let runs = [
          QueryRun(sequence: 1, firstRow: 0, count: 200, position: 70),
          QueryRun(sequence: 0, firstRow: 200, count: 1, position: 9),
          QueryRun(sequence: 2, firstRow: 201, count: 64, position: 128),
        ]
        for isDense in [false, true] {
          let items = PrefillAttention.items(runs, group: group, isDense: isDense)
          let rows = items.flatMap { $0.first_query..<$0.first_query + $0.query_count }
          #expect(rows.sorted() == Array(0..<265))
          for item in items {
            let run = try #require(runs.first { $0.sequence == item.sequence })
            let offset = Int(item.first_query) - run.firstRow
            #expect(Int(item.first_position) == run.position + offset)
            #expect(Int(item.query_count) * group <= 128)
            #expect(offset / 64 == (offset + Int(item.query_count) - 1) / 64)
            let before = [1: 0, 0: 4, 2: 5][run.sequence] ?? 0
            #expect(Int(item.list_row) == before + offset / 64)
          }
          let positions = items.map(\.first_position)
          if isDense { #expect(positions == positions.sorted(by: >)) }
        }
      }
    }

    @Test func setsOfBlocksKnowWhereTheGridEnds() throws {
      let plan = try Self.plan()
      let runs = [
        QueryRun(sequence: 0, firstRow: 0, count: 300, position: 10000),
        QueryRun(sequence: 1, firstRow: 300, count: 64, position: 0),
      ]
      let own = PrefillSelection.sets(runs, plan, .ownBlock)
      #expect(own.map(\.query_count) == [256, 44, 64])
      #expect(own.map(\.first_row) == [0, 4, 5])
      #expect(own.map(\.first_position) == [10000, 10256, 0])
      #expect(PrefillSelection.rowCount(runs) == 6)
      // One chunk more than between the sink and the window of the set's last query.
      // From the sink on in chunks of 32.
      let ends = own.map { Int($0.grid_end) }
      #expect(ends == [9280, 9312, 256])
      let fixed = PrefillSelection.sets(runs, plan, .fixed(10300))
      #expect(fixed.allSatisfy { $0.grid_end == 9280 })
    }

    @Test func plansAreThoseOfTheirPolicies() throws {
      let plan = try Self.plan(chunk: 64, keep: 32768, sharedBlocks: 2)
      #expect(plan.coarse.keep == 512 && plan.coarse.least == 512 && plan.coarse.share == 0)
      #expect(plan.coarse.distance == 1024 - 128 && plan.fine.distance == 1024 - 64)
      #expect(plan.fine.keep == 128 && plan.scanStride == 64 && plan.fineStride == 8)
      let shape = AttentionShape(heads: 32, kvHeads: 8, headSize: 128)
      #expect(PrefillSelection.supports(shape, .bfloat16, plan))
      #expect(DecodeSelection.supports(shape, .float16, plan))
      #expect(!PrefillSelection.supports(shape, .float32, plan))
      let odd = AttentionShape(heads: 4, kvHeads: 4, headSize: 80)
      #expect(!DecodeSelection.supports(odd, .bfloat16, plan))
      #expect(!PrefillAttention.supports(odd, .bfloat16))
      #expect(PrefillAttention.supports(shape, .bfloat16, Reach(sink: 37, window: 100)))
      #expect(
        !PrefillAttention.supports(shape, .bfloat16, Reach(sink: 37, window: 100), blockKeys: 16))
      // Means of 4 keys, and one stage only.
      let other = try HierarchicalPruning(
        reach: StreamingWindow(sink: 64, window: 256),
        stages: [PruningStage(chunkSize: 16, keep: 2048, estimate: .exact)],
        scoring: .init(sharing: .group, ranking: .share))
      #expect(SelectionPlan(other) == nil)
    }
  }
}
