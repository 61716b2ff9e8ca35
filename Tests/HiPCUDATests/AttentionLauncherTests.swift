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
    private func machine(major: Int32 = 9, minor: Int32 = 0) -> FakeMachine {
      let machine = FakeMachine(major: major, minor: minor)
      machine.declareAttention()
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
      try MeanKernels(call.kernels, call.workspace).completeMeans(
        counts: .init(repeating: 65, count: sequences), of: keys, tables, on: stream)
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
        #expect(
          one[0].hasSuffix(" attribute 6: 1 attribute 2: 1"),
          "it begins while the kernel before ends, and all of its blocks run side by side")
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
        #expect(launches.allSatisfy { !$0.contains("attribute 4") && !$0.contains("attribute 6") })
      }
      machine.expectClean()
    }

    /// What a launcher comes to: nil when it has launched.
    private func refusal(_ launch: () throws -> Void) throws -> ComputeError? {
      do {
        try launch()
        return nil
      } catch { return try #require(error as? ComputeError) }
    }

    @Test(arguments: [(8, 0), (8, 9), (9, 0), (10, 0)], [1, 16])
    func whatIsSupportedFitsTheSharedMemory(capability: (Int, Int), sequences: Int) throws {
      let machine = machine(major: Int32(capability.0), minor: Int32(capability.1))
      do {
        let plan = try Self.plan(keep: 2048)
        let reach = Reach(sink: plan.sink, window: plan.window)
        for (group, size) in [1, 4, 8, 16].flatMap({ group in
          [64, 96, 128, 256].map { (group, $0) }
        }) {
          let shape = AttentionShape(heads: 2 * group, kvHeads: 2, headSize: size)
          let call = try Call(machine, shape)
          let (facts, element, lists) = (call.device.facts, call.keys.element, call.lists(plan))
          let (keys, rows, stream) = (call.keys, call.rows, call.stream)
          let tables = call.tables(sequences)
          let run = [QueryRun(sequence: 0, firstRow: 0, count: 100, position: 4000)]
          let launches: [(String, Bool, () throws -> Void)] = [
            (
              "attention of many queries",
              PrefillAttention.supports(shape, element, reach, blockKeys: 16, on: facts),
              {
                try PrefillAttention(call.kernels, call.workspace).attend(
                  rows, run, over: keys, tables, reach: reach, selection: lists, on: stream)
              }
            ),
            (
              "attention of single queries",
              DecodeAttention.supports(shape, element, reach, blockKeys: 16, on: facts),
              {
                try DecodeAttention(call.kernels, call.workspace).attend(
                  rows, over: keys, tables, reach: reach, selection: lists, on: stream)
              }
            ),
            (
              "selection for blocks", PrefillSelection.supports(shape, element, plan, on: facts),
              {
                try PrefillSelection(call.kernels, call.workspace).select(
                  queries: rows.queries, run, over: keys, tables, plan, into: lists, on: stream)
              }
            ),
            (
              "selection for single queries",
              DecodeSelection.supports(shape, element, plan, sequences: sequences, on: facts),
              {
                try DecodeSelection(call.kernels, call.workspace).run(
                  rows, over: keys, tables, plan, into: lists, on: stream)
              }
            ),
          ]
          for (name, isSupported, launch) in launches {
            let error = try refusal(launch)
            #expect((error == nil) == isSupported, "\(name), \(group) x \(size): \(error as Any)")
            if let error { #expect(error.code == .unsupported, "\(error)") }
          }
        }
      }
      machine.expectClean()
    }

    @Test func supportFollowsTheSharedMemoryOfTheDevice() throws {
      func facts(_ major: Int32, _ minor: Int32) throws -> DeviceFacts {
        try machine(major: major, minor: minor).device().facts
      }
      let (ampere, ada, hopper) = (try facts(8, 0), try facts(8, 9), try facts(9, 0))
      #expect(
        [ampere, ada, hopper, try facts(8, 6), try facts(12, 0)].map(\.sharedByteCount)
          == [166_912, 101_376, 232_448, 101_376, 101_376])
      func shape(_ group: Int, _ size: Int) -> AttentionShape {
        AttentionShape(heads: 8 * group, kvHeads: 8, headSize: size)
      }
      // 132,224 bytes.
      #expect(PrefillAttention.supports(shape(1, 256), .bfloat16, on: ampere))
      #expect(!PrefillAttention.supports(shape(1, 256), .bfloat16, on: ada))
      #expect(PrefillAttention.supports(shape(16, 128), .bfloat16, on: ada))
      // 132,096 bytes.
      #expect(DecodeAttention.supports(shape(16, 256), .bfloat16, on: ampere))
      #expect(!DecodeAttention.supports(shape(16, 256), .bfloat16, on: ada))
      #expect(DecodeAttention.supports(shape(8, 256), .bfloat16, on: ada))
      // 16 warps have twice the outputs of 8.
      let plan = try Self.plan(keep: 2048)
      func selects(_ sequences: Int, on device: DeviceFacts) -> Bool {
        DecodeSelection.supports(
          shape(16, 128), .bfloat16, plan, sequences: sequences, on: device)
      }
      #expect(selects(1, on: ada) && !selects(16, on: ada) && selects(16, on: ampere))
    }

    @Test func memoryIsNotMadeWhileAGraphIsCaptured() throws {
      let machine = machine()
      do {
        let call = try Call(machine)
        let (workspace, stream) = (call.workspace, call.stream)
        // Some that can be handed out without asking the driver.
        for size in [100, 4096] { _ = try call.memory.allocate(byteCount: size) }
        let known = try workspace.address("arrivals", byteCount: 600, isZeroed: true, on: stream)
        let list = try workspace.list(1, on: stream) { [1, 2] as [Int32] }
        let (account, generation) = (call.memory.account, workspace.generation)
        _ = machine.takeLog()
        let graph = try stream.capture(keeping: workspace.owned) { () throws(ComputeError) in
          func expectRefusal(_ body: () throws(ComputeError) -> Void) {
            let error = #expect(throws: ComputeError.self) { try body() }
            #expect(error?.code == .device)
            #expect(error?.message.contains("this is a mistake in the program") == true)
          }
          expectRefusal { () throws(ComputeError) in
            _ = try workspace.address("others", byteCount: 100, isZeroed: true, on: stream)
          }
          expectRefusal { () throws(ComputeError) in
            _ = try workspace.address("arrivals", byteCount: 4000, isZeroed: true, on: stream)
          }
          expectRefusal { () throws(ComputeError) in
            _ = try workspace.list(2, on: stream) { [3] as [Int32] }
          }
          let again = try workspace.address("arrivals", byteCount: 600, on: stream)
          let listAgain = try workspace.list(1, on: stream) { [] as [Int32] }
          #expect(again == known && listAgain == list)
        }
        #expect(graph.nodeCount == 0 && machine.takeLog().isEmpty)
        #expect(call.memory.account == account && workspace.generation == generation)
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
      let facts = try machine().device().facts
      let shape = AttentionShape(heads: 32, kvHeads: 8, headSize: 128)
      #expect(PrefillSelection.supports(shape, .bfloat16, plan, on: facts))
      #expect(DecodeSelection.supports(shape, .float16, plan, sequences: 1, on: facts))
      #expect(!PrefillSelection.supports(shape, .float32, plan, on: facts))
      let odd = AttentionShape(heads: 4, kvHeads: 4, headSize: 80)
      #expect(!DecodeSelection.supports(odd, .bfloat16, plan, sequences: 1, on: facts))
      #expect(!PrefillAttention.supports(odd, .bfloat16, on: facts))
      let reach = Reach(sink: 37, window: 100)
      #expect(PrefillAttention.supports(shape, .bfloat16, reach, on: facts))
      #expect(!PrefillAttention.supports(shape, .bfloat16, reach, blockKeys: 16, on: facts))
      // Means of 4 keys, and one stage only.
      let other = try HierarchicalPruning(
        reach: StreamingWindow(sink: 64, window: 256),
        stages: [PruningStage(chunkSize: 16, keep: 2048, estimate: .exact)],
        scoring: .init(sharing: .group, ranking: .share))
      #expect(SelectionPlan(other) == nil)
    }
  }
}
