// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import HiPModelFiles
import HiPModels
import HiPTensors
import InfiniteHiP
import TestSupport
import Testing

/// A question that is read twice, and its answer, on the demo model.
@Suite struct FocusTests {
  private let model: DecoderModel
  private let attention: LayerAttention
  private let cache: SequenceCache
  private let text: [Int32]

  init() throws {
    let language = try LanguageModel.load(DemoModel.path, on: CPUBackend(threads: 2))
    text = Array(
      try language.tokens(of: .text(DemoModel.novel(9000)), atBeginning: true).prefix(1400))
    let file = try GGUFFile(path: DemoModel.path)
    let backend = try CPUBackend(threads: 2)
    model = try DecoderModel(DecoderArchitecture(file), weights: file, backend: backend)
    attention = LayerAttention(SessionTests.focused, trainedLength: 8192)
    guard case .hierarchical(let pruning) = SessionTests.focused.policy else {
      preconditionFailure("the policy selects")
    }
    cache = SequenceCache(
      pool: CachePool(
        backend: backend,
        layout: KVLayout(
          layerCount: model.architecture.layerCount, shape: model.architecture.attention,
          element: .float16, sketches: pruning.sketches)))
  }

  private func readText() throws {
    for part in [text[..<1000], text[1000..<1300]] {
      _ = try model.read(Array(part), cache: cache, attention: attention, logits: .none)
    }
  }

  /// Whether all layers have selected within the passages that the cache looks at.
  private func expectSelectionsWithinPassages() throws {
    let passages = try #require(cache.focused?.passages)
    let chunks = Set(passages.chunks(of: 8))
    guard case .hierarchical(let pruning) = SessionTests.focused.policy else { return }
    for selection in cache.selections {
      let found = selection.download(shape: model.architecture.attention, pruning: pruning)
      let blocks = found.blocks.joined().joined()
      #expect(!blocks.isEmpty && blocks.allSatisfy { chunks.contains($0) })
      #expect(found.held == nil)
    }
  }

  @Test func theAnswerLooksWhereTheQuestionDrewOnMost() throws {
    try readText()
    let question = Array(text[1300..<1340])
    let logits = try model.ask(question, cache: cache, attention: attention)
    #expect(cache.length == 1340)
    try expectSelectionsWithinPassages()
    let passages = try #require(cache.focused?.passages)
    #expect(passages.starts.count == 16)
    // Three tokens look there, the fourth everywhere before: what it draws on takes half of the room.
    for count in 1...4 {
      _ = try model.write(text[1339 + count], cache: cache, attention: attention)
      #expect(cache.length == 1340 + count)
      try expectSelectionsWithinPassages()
      let now = try #require(cache.focused?.passages)
      if count < 4 {
        #expect(now == passages)
      } else {
        // The question keeps its half; what both draw on takes room once.
        let kept = Set(now.starts).intersection(passages.starts).count
        #expect((8..<16).contains(kept) && (9...16).contains(now.starts.count))
      }
    }
    // Nothing of the first reading, nor of the answer, is left.
    cache.truncate(to: 1300)
    #expect(cache.focused == nil)
    #expect(try model.ask(question, cache: cache, attention: attention) == logits)
    // What is read next looks everywhere.
    let everywhere = cache.fork()
    _ = try model.read([text[1340]], cache: everywhere, attention: attention, logits: .none)
    #expect(everywhere.focused == nil)
    #expect(cache.focused?.passages == passages)
  }

  @Test func aQuestionThatDrawsOnPassagesIsReadDifferently() throws {
    try readText()
    let other = cache.fork()
    let question = Array(text[1300..<1340])
    let asked = try model.ask(question, cache: cache, attention: attention)
    let read = try model.read(question, cache: other, attention: attention, logits: .last)
    #expect(asked != read)
  }
}
