// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPCPU
import InfiniteHiP
import TestSupport
import Testing

/// The reference and the CPU against the NumPy model of the specification (Scripts/oracle).
@Suite struct OracleTests {
  private struct Fixture: Decodable {
    struct Case: Decodable {
      let rule: String
      let shared: Bool
      let first: Int
      let count: Int
      let blocks: [[Int32]]
      let output: [[Double]]
    }
    let length, heads, kvHeads, headSize, rows, sink, window: Int
    let ropeBase: Double
    let queries, keys, values: [Int]
    let cases: [Case]
  }

  private let fixture: Fixture

  init() throws {
    let url = try #require(
      Bundle.module.url(forResource: "attention", withExtension: "json", subdirectory: "Fixtures"))
    fixture = try JSONDecoder().decode(Fixture.self, from: Data(contentsOf: url))
  }

  private func pruning(_ item: Fixture.Case) throws -> HierarchicalPruning {
    let positions: PositionScheme =
      switch item.rule {
      case "chunk": .chunkIndexed
      case "infllm": .infllm
      default: .relative
      }
    return try HierarchicalPruning(
      reach: StreamingWindow(sink: fixture.sink, window: fixture.window),
      stages: [
        PruningStage(chunkSize: 64, keep: 256, queryStride: 4),
        PruningStage(chunkSize: 16, keep: 128, queryStride: 4),
        PruningStage(chunkSize: 8, keep: 64),
      ],
      scoring: HierarchicalPruning.Scoring(
        sharing: item.shared ? .allHeads : .head, positions: positions))
  }

  @Test(arguments: TestedBackend.fastest)
  func referenceAndCPUFollowTheOracle(_ backend: TestedBackend) throws {
    #expect(fixture.cases.count == 24)
    let shape = AttentionShape(
      heads: fixture.heads, kvHeads: fixture.kvHeads, headSize: fixture.headSize)
    let queryWidth = shape.heads * shape.headSize
    let keyWidth = shape.kvHeads * shape.headSize
    var blocks = CommonBlocks()
    for item in fixture.cases {
      let name = "\(item.rule), shared \(item.shared), rows \(item.first) + \(item.count)"
      let pruning = try pruning(item)
      let rotary =
        item.rule == "none"
        ? nil : RotaryEmbedding(base: fixture.ropeBase, dimensions: shape.headSize)
      // The grid spans all keys; queries before the last ones are padded with the ones behind them.
      let queries = fixture.queries[(item.first * queryWidth)...].map { Float($0) / 16 }
      let keys = fixture.keys.map { Float($0) / 16 }
      let values = fixture.values.map { Float($0) / 16 }
      let reference = ReferenceAttention(
        queries: queries, keys: keys, values: values, shape: shape, rotary: rotary)
      let selected = ReferenceSelection(reference).run(pruning)
      #expect(selected.blocks.map { $0[0] } == item.blocks, "reference, \(name)")
      func run(_ selection: BlockSelection?) throws -> AttentionOperator.Result {
        try AttentionOperator(on: backend.make(), keeping: backend.kvType).run(
          queries: queries, keys: keys, values: values, shape: shape,
          policy: .hierarchical(pruning), rotary: rotary, selection: selection)
      }
      blocks.add(try run(nil).selection, selected, name)
      let result = try run(selected)
      let expected = reference.run(.hierarchical(pruning), selection: selected)
      for (row, values) in zip(item.count == 1 ? [0] : [0, item.count - 1], item.output) {
        let range = row * queryWidth..<(row + 1) * queryWidth
        expectClose(
          expected[range].map(Float.init), values, within: 1e-6, "reference, \(name), row \(row)")
        expectClose(
          Array(result.output[range]), values, within: backend.tolerance,
          "CPU, \(name), row \(row)")
      }
      #expect(keys.count == fixture.length * keyWidth)
    }
    #expect(blocks.share >= backend.blocksInCommon, "\(blocks)")
  }
}
