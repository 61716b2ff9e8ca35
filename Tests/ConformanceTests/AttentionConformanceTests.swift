// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import InfiniteHiP
import TestSupport
import Testing

/// Every backend against the reference in double precision.
@Suite struct AttentionConformanceTests {
  static let shapes = [
    AttentionShape(heads: 4, kvHeads: 2, headSize: 16),
    AttentionShape(heads: 3, kvHeads: 3, headSize: 80),
    AttentionShape(heads: 8, kvHeads: 1, headSize: 128),
  ]

  static func rotary(_ shape: AttentionShape) -> RotaryEmbedding {
    RotaryEmbedding(base: 10_000, dimensions: shape.headSize)
  }

  @Test(arguments: TestedBackend.available, shapes)
  func denseEqualsTheReference(_ backend: TestedBackend, _ shape: AttentionShape) throws {
    for (queries, keys) in [(1, 1), (1, 300), (70, 70), (65, 300), (3, 64)] {
      let layer = Layer(queries: queries, keys: keys, shape: shape, seed: 1, for: backend)
      for rotary in [nil, Self.rotary(shape)] {
        let result = try layer.run(
          .dense, on: backend.make(), keeping: backend.kvType, rotary: rotary)
        #expect(result.selection == nil)
        expectClose(
          result.output, layer.reference(rotary).run(.dense), within: backend.tolerance,
          "\(queries) queries, \(keys) keys")
      }
    }
  }

  @Test(arguments: TestedBackend.available, shapes)
  func streamingEqualsTheReference(_ backend: TestedBackend, _ shape: AttentionShape) throws {
    for (sink, window) in [(4, 32), (0, 1), (64, 100), (500, 500)] {
      let policy = AttentionPolicy.streaming(try StreamingWindow(sink: sink, window: window))
      let layer = Layer(queries: 66, keys: 230, shape: shape, seed: 2, for: backend)
      for rotary in [nil, Self.rotary(shape)] {
        let result = try layer.run(
          policy, on: backend.make(), keeping: backend.kvType, rotary: rotary)
        expectClose(
          result.output, layer.reference(rotary).run(policy), within: backend.tolerance,
          "sink \(sink), window \(window)")
      }
    }
  }

  /// What some families add: another scale, capped scores, a sink without a value, a rotation that sharpens, of a part
  /// of each head.
  @Test(arguments: TestedBackend.available)
  func variantsOfScoresEqualTheReference(_ backend: TestedBackend) throws {
    let rotary = RotaryEmbedding(
      frequencies: RotaryEmbedding(base: 10_000, dimensions: 24).frequencies, amplitude: 1.2)
    let pruning = try HierarchicalPruning(
      reach: StreamingWindow(sink: 64, window: 64),
      stages: [PruningStage(chunkSize: 8, keep: 64, estimate: .exact)],
      scoring: .init(sharing: .group, positions: .streaming), attentionPositions: .streaming)
    let policies: [AttentionPolicy] = [
      .dense, .streaming(try StreamingWindow(sink: 0, window: 16)), .hierarchical(pruning),
      .heavyHitters(try HeavyHitters(recent: 64, heavy: 64)),
    ]
    let shapes = [
      AttentionShape(heads: 4, kvHeads: 2, headSize: 32, scale: 0.3),
      AttentionShape(heads: 4, kvHeads: 2, headSize: 32, softCap: 2),
    ]
    for shape in shapes {
      for sinks in [[], [1, -40, 3.5, 0] as [Float]] {
        // What H2O evicts hangs by near ties, which fall either way where factors are rounded.
        for policy in backend.tolerance > 1e-3 ? policies.dropLast() : policies[...] {
          for queries in [1, 67] {
            let layer = Layer(queries: queries, keys: 230, shape: shape, seed: 21, for: backend)
            let result = try layer.run(
              policy, on: backend.make(), keeping: backend.kvType, rotary: rotary, sinks: sinks)
            let expected = layer.reference(rotary, sinks: sinks).run(
              policy, selection: result.selection)
            expectClose(
              result.output, expected, within: backend.tolerance,
              "\(policy), \(queries) queries, sinks \(sinks)")
          }
        }
      }
    }
  }

  /// Tables of rotations end at 65,536; positions behind are put together from two rows.
  @Test(arguments: TestedBackend.fastest)
  func positionsBeyondTheTableEqualTheReference(_ backend: TestedBackend) throws {
    let shape = AttentionShape(heads: 3, kvHeads: 1, headSize: 16)
    let absolute = try HierarchicalPruning(
      reach: StreamingWindow(sink: 64, window: 64),
      stages: [PruningStage(chunkSize: 32, keep: 4096, estimate: .exact)],
      scoring: .init(sharing: .group, positions: .absolute), attentionPositions: .absolute)
    var blocks = CommonBlocks()
    for queries in [1, 5] {
      let layer = Layer(queries: queries, keys: 66_000, shape: shape, seed: 9, for: backend)
      let rotary = Self.rotary(shape)
      let reference = layer.reference(rotary)
      let dense = try layer.run(.dense, on: backend.make(), keeping: backend.kvType, rotary: rotary)
      expectClose(dense.output, reference.run(.dense), within: backend.tolerance, "\(queries)")
      let sparse = try layer.run(
        .hierarchical(absolute), on: backend.make(), keeping: backend.kvType, rotary: rotary)
      let selection = try #require(sparse.selection)
      expectClose(
        sparse.output, reference.run(.hierarchical(absolute), selection: selection),
        within: backend.tolerance, "selected, \(queries)")
      blocks.add(selection, ReferenceSelection(reference).run(absolute), "\(queries) queries")
    }
    #expect(blocks.share >= backend.blocksInCommon, "\(blocks)")
  }

  /// A policy may keep more keys than a text will ever have; what that takes follows the text.
  @Test func keepingMoreThanThereIsTakesNoMemory() throws {
    let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 32)
    let layer = Layer(queries: 70, keys: 600, shape: shape, seed: 3)
    func run(_ keep: Int) throws -> AttentionOperator.Result {
      let pruning = try HierarchicalPruning(
        reach: StreamingWindow(sink: 64, window: 64),
        stages: [
          PruningStage(chunkSize: 8, keep: keep, estimate: .means),
          PruningStage(chunkSize: 8, keep: 64, estimate: .exact),
        ], scoring: .init(sharing: .group, ranking: .share, positions: .infllm))
      return try layer.run(
        .hierarchical(pruning), on: CPUBackend(threads: 2), rotary: Self.rotary(shape))
    }
    let before = MachineMemory.peakByteCount
    let found = try run(1_000_000_000)
    // Other tests run beside this one; 625 MB a thread was what it took.
    #expect(MachineMemory.peakByteCount - before < 400_000_000)
    #expect(try run(4096).output == found.output)
  }

  @Test(arguments: TestedBackend.available)
  func stretchedEqualsTheReference(_ backend: TestedBackend) throws {
    let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 32)
    let layer = Layer(queries: 70, keys: 300, shape: shape, seed: 5, for: backend)
    let rotary = Self.rotary(shape)
    for stretch in [RotaryStretch.linear(factor: 2.5), .ntk(factor: 4), .dynamic] {
      let result = try layer.run(
        .stretched(stretch), on: backend.make(), keeping: backend.kvType, rotary: rotary)
      expectClose(
        result.output, layer.reference(rotary).run(.stretched(stretch)), within: backend.tolerance,
        "\(stretch)")
    }
  }

  @Test(arguments: TestedBackend.available)
  func heavyHittersEqualTheReference(_ backend: TestedBackend) throws {
    let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 32)
    for (recent, heavy, queries) in [(40, 24, 230), (1, 0, 70), (64, 64, 150), (200, 10, 130)] {
      let policy = AttentionPolicy.heavyHitters(try HeavyHitters(recent: recent, heavy: heavy))
      let layer = Layer(queries: queries, keys: 230, shape: shape, seed: 6, for: backend)
      for rotary in [nil, Self.rotary(shape)] {
        let result = try layer.run(
          policy, on: backend.make(), keeping: backend.kvType, rotary: rotary)
        // Rounding evicts the other of two keys whose masses nearly tie, and outputs follow.
        let expected = layer.reference(rotary).run(policy)
        let close = zip(result.output, expected).count { abs(Double($0) - $1) <= backend.tolerance }
        #expect(
          Double(close) >= backend.blocksInCommon * Double(expected.count),
          "recent \(recent), heavy \(heavy): \(close) of \(expected.count)")
      }
    }
  }

  /// Every estimate, ranking, sharing and position scheme at least once.
  static let prunings: [HierarchicalPruning] = {
    typealias Pruning = HierarchicalPruning
    func make(
      _ stages: [PruningStage], _ sharing: HeadSharing, _ ranking: ChunkRanking,
      _ positions: PositionScheme, _ attention: PositionScheme = .streaming,
      _ halving: HalvingRule = .implementation
    ) -> Pruning? {
      try? Pruning(
        reach: StreamingWindow(sink: 64, window: 64), stages: stages,
        scoring: Pruning.Scoring(
          sharing: sharing, ranking: ranking, positions: positions, halving: halving),
        attentionPositions: attention)
    }
    func halving(_ stride: Int) -> [PruningStage] {
      [
        PruningStage(chunkSize: 32, keep: 128, queryStride: stride),
        PruningStage(chunkSize: 8, keep: 48, queryStride: stride),
      ]
    }
    func estimates(_ first: ChunkEstimate, _ stride: Int) -> [PruningStage] {
      [
        PruningStage(
          chunkSize: first == .means ? 8 : 16, keep: 96,
          proportion: stride == 4 ? .init(share: 0.3, least: 48) : nil, queryStride: stride,
          estimate: first),
        PruningStage(chunkSize: 8, keep: 40, estimate: .exact),
      ]
    }
    /// Several blocks share the first stage.
    func shared(
      _ blocks: Int, _ stages: [PruningStage], _ sharing: HeadSharing, _ ranking: ChunkRanking,
      _ positions: PositionScheme
    ) -> Pruning? {
      var stages = stages
      stages[0].queryBlocks = blocks
      // Of the texts below, some begin before it and some behind.
      if ranking == .share { stages[0].sharedFrom = 150 }
      return try? Pruning(
        reach: StreamingWindow(sink: 64, window: 130), queryBlock: 32, stages: stages,
        scoring: Pruning.Scoring(sharing: sharing, ranking: ranking, positions: positions))
    }
    func tree(_ chunk: Int, _ keep: Int) -> [PruningStage] {
      [PruningStage(chunkSize: chunk, keep: keep, estimate: .tree)]
    }
    return [
      make(halving(4), .allHeads, .maximum, .relative),
      make(halving(1), .head, .maximum, .chunkIndexed),
      make(halving(2), .group, .maximum, .infllm),
      make(halving(1), .group, .maximum, .absolute, .absolute),
      make(estimates(.means, 1), .group, .share, .infllm),
      make(estimates(.means, 4), .allHeads, .share, .relative),
      make(estimates(.means, 2), .head, .share, .relative),
      make(estimates(.exact, 2), .head, .share, .chunkIndexed),
      make(estimates(.exact, 1), .allHeads, .maximum, .absolute, .absolute),
      make([], .allHeads, .maximum, .relative),
      make(halving(1), .allHeads, .maximum, .relative, .relative, .paper),
      make(halving(1), .head, .maximum, .selfExtend, .selfExtend),
      make(halving(2), .group, .maximum, .dynamic, .dynamic),
      make(halving(1), .head, .maximum, .streaming, .infllm, .paper),
      make(estimates(.exact, 2), .group, .share, .selfExtend, .chunkIndexed),
      make(estimates(.fourBit, 2), .group, .share, .infllm),
      make(estimates(.fourBit, 1), .head, .maximum, .relative),
      make(tree(2, 32), .head, .maximum, .absolute, .absolute),
      make(tree(4, 64), .group, .maximum, .dynamic, .selfExtend),
      make(tree(1, 16), .head, .maximum, .relative),
      make(estimates(.means, 2), .group, .share, .infllm, .spread),
      make(halving(1), .head, .maximum, .chunkIndexed, .spread),
      shared(4, estimates(.means, 4), .group, .share, .infllm),
      shared(2, estimates(.means, 1), .allHeads, .share, .relative),
      shared(4, estimates(.exact, 1), .group, .share, .selfExtend),
      shared(4, estimates(.fourBit, 2), .head, .maximum, .infllm),
      shared(2, halving(4), .allHeads, .maximum, .relative),
      shared(4, halving(1), .head, .maximum, .chunkIndexed),
    ].compactMap { $0 }
  }()

  @Test func allPoliciesOfTheSuiteAreValid() { #expect(Self.prunings.count == 28) }

  /// One device, layer after layer: nothing of a call may stay for the next one.
  ///
  /// Over several pages, and with texts that have hardly a candidate.
  @Test(arguments: TestedBackend.available)
  func laterCallsSelectAsFirstOnes(_ backend: TestedBackend) throws {
    let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 32)
    func make(_ stages: PruningStage...) throws -> HierarchicalPruning {
      var stages = stages
      stages[0].queryBlocks = 4
      return try HierarchicalPruning(
        reach: StreamingWindow(sink: 64, window: 128), queryBlock: 32, stages: stages,
        scoring: .init(sharing: .group, ranking: .share, positions: .infllm))
    }
    let prunings = [
      try make(
        PruningStage(chunkSize: 8, keep: 96, estimate: .means),
        PruningStage(chunkSize: 8, keep: 8, estimate: .exact)),
      // The third stage packs other keys between the blocks that share the second's.
      try make(
        PruningStage(chunkSize: 8, keep: 192, queryStride: 8, estimate: .means),
        PruningStage(chunkSize: 8, keep: 96, queryStride: 2, estimate: .exact),
        PruningStage(chunkSize: 8, keep: 32, estimate: .exact)),
      // Two rows a head, which are not packed.
      try make(
        PruningStage(chunkSize: 8, keep: 192, estimate: .means),
        PruningStage(
          chunkSize: 8, keep: 64, proportion: .init(share: 0.2, least: 8), queryStride: 32,
          estimate: .exact)),
    ]
    let device = try backend.make()
    var blocks = CommonBlocks()
    for (index, pruning) in prunings.enumerated() {
      for (queries, keys) in [(200, 1300), (256, 256), (330, 330), (100, 2100)] {
        let layer = Layer(
          queries: queries, keys: keys, shape: shape, seed: UInt64(keys + index), for: backend)
        let result = try layer.run(
          .hierarchical(pruning), on: device, rotary: Self.rotary(shape))
        let expected = ReferenceSelection(layer.reference(Self.rotary(shape))).run(pruning)
        blocks.add(result.selection, expected, "policy \(index), \(queries) of \(keys)")
      }
    }
    #expect(blocks.share >= backend.blocksInCommon, "\(blocks)")
  }

  /// The shape of the default: a scan that more blocks share from a position on, queries of which one in several
  /// counts, and blocks that are spread over a trained length that leaves them room.
  @Test(arguments: TestedBackend.available)
  func theShapeOfTheDefaultEqualsTheReference(_ backend: TestedBackend) throws {
    let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 32)
    var scan = PruningStage(
      chunkSize: 8, keep: 768, proportion: .init(share: 0.75, least: 128), queryStride: 64,
      estimate: .means)
    scan.queryBlocks = 8
    scan.sharedFrom = 600
    let pruning = try HierarchicalPruning(
      reach: StreamingWindow(sink: 64, window: 256), queryBlock: 32,
      stages: [scan, PruningStage(chunkSize: 8, keep: 64, queryStride: 2, estimate: .exact)],
      scoring: .init(sharing: .group, ranking: .share, positions: .infllm),
      attentionPositions: .spread)
    #expect(pruning.stages[0].resolved(at: 599).queryBlocks == 2)
    #expect(pruning.stages[0].resolved(at: 599).queryStride == 16)
    #expect(pruning.stages[0].resolved(at: 600).queryStride == 64)
    var blocks = CommonBlocks()
    // Begins before and behind that position; the last blocks are fewer than share a scan, and not whole.
    for (queries, keys) in [(300, 700), (530, 1200), (45, 1300)] {
      let layer = Layer(
        queries: queries, keys: keys, shape: shape, seed: UInt64(keys), for: backend)
      let rotary = Self.rotary(shape)
      // Room for 500 - 256 - 32 positions of 128 keys.
      let result = try layer.run(
        .hierarchical(pruning), on: backend.make(), keeping: backend.kvType, rotary: rotary,
        trainedLength: 500)
      let reference = layer.reference(rotary, trainedLength: 500)
      let selection = try #require(result.selection)
      blocks.add(selection, ReferenceSelection(reference).run(pruning), "\(queries) of \(keys)")
      expectClose(
        result.output, reference.run(.hierarchical(pruning), selection: selection),
        within: backend.tolerance, "\(queries) of \(keys)")
    }
    #expect(blocks.share >= backend.blocksInCommon, "\(blocks)")
  }

  /// What has a name, beyond a short trained length; outputs by what was selected, so that near ties hide nothing.
  @Test(arguments: TestedBackend.fastest)
  func presetsEqualTheReference(_ backend: TestedBackend) throws {
    let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 64)
    var blocks = CommonBlocks()
    for choice in AttentionChoice.presets + (backend.isGPU ? [.gpu] : []) {
      guard case .hierarchical(let pruning) = choice.policy else { continue }
      for (queries, keys) in [(1, 6000), (40, 3600)] {
        for rotary in [nil, Self.rotary(shape)] {
          let name = "\(choice.name), \(queries) queries, \(rotary == nil ? "not " : "")rotated"
          let layer = Layer(queries: queries, keys: keys, shape: shape, seed: 31, for: backend)
          let result = try layer.run(
            choice.policy, on: backend.make(), keeping: backend.kvType, rotary: rotary,
            trainedLength: 2000)
          let selection = try #require(result.selection)
          let reference = layer.reference(rotary, trainedLength: 2000)
          expectClose(
            result.output, reference.run(choice.policy, selection: selection),
            within: backend.tolerance, name)
          // What the tuned kernels find is measured below, by its mass.
          if queries == 1, choice != .gpu || backend.blocksInCommon == 1 {
            blocks.add(selection, ReferenceSelection(reference).run(pruning), name)
          }
        }
      }
    }
    #expect(blocks.share >= backend.blocksInCommon, "\(blocks)")
  }

  /// Means of 32 keys in chunks of 32 or 64, as the tuned kernels of GPUs have them.
  @Test(arguments: TestedBackend.gpus)
  func wideChunksEqualTheReference(_ backend: TestedBackend) throws {
    func pruning(
      _ chunkSize: Int, _ blockSize: Int, _ queryBlocks: Int
    ) throws -> HierarchicalPruning {
      var scan = PruningStage(
        chunkSize: chunkSize, keep: 768, proportion: .init(share: 0.6, least: 512), queryStride: 64,
        estimate: .means)
      (scan.keysPerMean, scan.queryBlocks) = (32, queryBlocks)
      var fine = scan
      (fine.queryStride, fine.queryBlocks) = (1, 1)
      let exact = PruningStage(chunkSize: blockSize, keep: 256, estimate: .exact)
      var strided = exact
      strided.queryStride = 8
      return try HierarchicalPruning(
        reach: StreamingWindow(sink: 64, window: 384), stages: [scan, strided],
        fineStages: [fine, exact],
        scoring: .init(sharing: .group, ranking: .share, positions: .infllm))
    }
    var blocks = CommonBlocks()
    for (shape, chunkSize, blockSize, queryBlocks) in [
      (AttentionShape(heads: 8, kvHeads: 2, headSize: 128), 32, 16, 4),
      (AttentionShape(heads: 3, kvHeads: 1, headSize: 64), 64, 8, 1),
      (AttentionShape(heads: 4, kvHeads: 4, headSize: 96, softCap: 30), 32, 32, 2),
      (AttentionShape(heads: 16, kvHeads: 1, headSize: 256), 64, 64, 4),
    ] {
      let pruning = try pruning(chunkSize, blockSize, queryBlocks)
      for (queries, keys) in [(1, 3001), (1, 450), (300, 2500), (64, 2048), (130, 700)] {
        let name = "\(shape), blocks of \(blockSize), \(queries) queries, \(keys) keys"
        let layer = Layer(
          queries: queries, keys: keys, shape: shape, seed: UInt64(keys), for: backend)
        let policy = queries == 1 ? pruning.fine : pruning
        let sinks: [Float] = queries == 64 ? (0..<shape.heads).map { Float($0) / 4 } : []
        let reference = layer.reference(nil, sinks: sinks)
        let result = try layer.run(
          .hierarchical(policy), on: backend.make(), keeping: backend.kvType, rotary: nil,
          sinks: sinks)
        let selection = try #require(result.selection)
        let expected = ReferenceSelection(reference).run(policy)
        if backend.blocksInCommon == 1 { blocks.add(selection, expected, name) }
        // Of shares that nearly tie the tuned kernels take the first, so that lists differ where nothing is at stake.
        func held(_ selection: BlockSelection) -> Double {
          layer.massHeld(
            by: selection, sink: policy.sink, window: policy.window, step: max(1, queries / 20))
        }
        let (own, best) = (held(selection), held(expected))
        #expect(own >= 0.96 * best, "\(name): \(own) of \(best)")
        expectClose(
          result.output, reference.run(.hierarchical(policy), selection: selection),
          within: backend.tolerance, name)
      }
    }
    #expect(blocks.share >= backend.blocksInCommon || backend.blocksInCommon < 1, "\(blocks)")
  }

  @Test(arguments: TestedBackend.available)
  func selectionEqualsTheReference(_ backend: TestedBackend) throws {
    let shape = AttentionShape(heads: 4, kvHeads: 2, headSize: 32)
    var blocks = CommonBlocks()
    for (index, pruning) in Self.prunings.enumerated() {
      for (queries, keys, rotated) in [
        (70, 400, true), (1, 333, true), (70, 400, false), (40, 90, true), (200, 400, true),
      ] {
        let name = "policy \(index), \(queries) queries, \(keys) keys"
        let layer = Layer(
          queries: queries, keys: keys, shape: shape, seed: UInt64(index), for: backend)
        // As YaRN has it, where queries are many.
        let rotary =
          rotated
          ? RotaryEmbedding(
            frequencies: Self.rotary(shape).frequencies, amplitude: queries == 200 ? 1.3 : 1) : nil
        let result = try layer.run(
          .hierarchical(pruning), on: backend.make(), keeping: backend.kvType, rotary: rotary)
        let expected = ReferenceSelection(layer.reference(rotary)).run(pruning)
        blocks.add(result.selection, expected, name)
        // With the reference's blocks, so that one exchanged block does not hide an error.
        let given = try layer.run(
          .hierarchical(pruning), on: backend.make(), keeping: backend.kvType, rotary: rotary,
          selection: expected)
        expectClose(
          given.output,
          layer.reference(rotary).run(.hierarchical(pruning), selection: expected),
          within: backend.tolerance, name)
      }
    }
    #expect(blocks.share >= backend.blocksInCommon, "\(blocks)")
  }
}
