// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import HiPModelFiles
import HiPModels
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

/// A question that is probed, and its answer, on the demo model: step by step.
@Suite struct FocusTests {
  private let runner: ModelRunner
  private let tokenizer: any Tokenizer
  private let attention: LayerAttention
  private let pruning: HierarchicalPruning
  private let text: [TokenID]
  private let id: SequenceID

  init() throws {
    let description = try ModelDescription(ModelFile(path: DemoModel.path))
    tokenizer = description.tokenizer
    text = Array(tokenizer.encode(try DemoModel.novel(9000), special: .text).prefix(1400))
    let model = try DecoderModel(description.plan, on: CPUBackend(threads: 2))
    runner = ModelRunner(model, capacity: 1 << 30)
    attention = LayerAttention(SessionTests.focused, trainedLength: 8192)
    guard case .hierarchical(let pruning) = SessionTests.focused.policy else {
      preconditionFailure("the policy selects")
    }
    self.pruning = pruning
    id = runner.open(model.architecture.kvFormat(.f16, [SessionTests.focused.policy]))
  }

  /// Runs the next step; its slice.
  private func step(_ state: inout SequenceState, _ id: SequenceID) throws -> SequenceSlice? {
    guard let slice = state.nextSlice(of: id) else { return nil }
    try runner.cache(id).reserve(slice.tokens.count)
    let output = try #require(try runner.run(StepPlan([slice])).first)
    #expect(output.failure == nil)
    _ = state.apply(slice, output)
    return slice
  }

  private func stored(_ state: inout SequenceState, _ tokens: [TokenID]) throws {
    state.begin(tokens, .store(observed: 0))
    while try step(&state, id) != nil {}
    state.end()
  }

  private func ask(_ state: inout SequenceState, _ question: [TokenID]) {
    let request = GenerationRequest(.tokens(question), maximumTokens: 8)
    state.begin(question, .answer(Answer(request, tokenizer: tokenizer, endTokens: [])))
  }

  /// Whether all layers have selected within some passages.
  private func expectSelections(within passages: Passages) {
    let chunks = Set(passages.chunks(of: 8))
    let shape = runner.model.architecture.attention
    for layer in 0..<runner.model.architecture.layerCount {
      let found = runner.cache(id).selection.download(layer: layer, shape: shape, pruning: pruning)
      let blocks = found.blocks.joined().joined()
      #expect(!blocks.isEmpty && blocks.allSatisfy { chunks.contains($0) })
    }
  }

  private func selectedBlocks() -> [Int32] {
    let shape = runner.model.architecture.attention
    return (0..<runner.model.architecture.layerCount).flatMap { layer in
      runner.cache(id).selection.download(layer: layer, shape: shape, pruning: pruning).blocks
        .joined().joined()
    }
  }

  private func passages(_ slice: SequenceSlice) -> Passages? {
    if case .within(let passages) = slice.selection { passages } else { nil }
  }

  @Test func theAnswerAttendsToWhatTheQuestionDrewOnMost() throws {
    var state = SequenceState(attention: attention)
    try stored(&state, Array(text[..<1300]))
    ask(&state, Array(text[1300..<1340]))
    let probe = try #require(try step(&state, id))
    #expect(probe.kind == .probe && probe.tokens.count == 40 && probe.selection == .everywhere)
    // Nothing of the probe is stored.
    #expect(state.length == 1300 && runner.cache(id).length == 1300)
    let question = try #require(try step(&state, id))
    #expect(question.kind == .prefill && question.tokens == probe.tokens)
    let first = try #require(passages(question))
    #expect(first.starts.count == 16)
    expectSelections(within: first)
    // Four tokens attend there, those that follow everywhere, by the stages that are due.
    for count in 1...6 {
      let slice = try #require(try step(&state, id))
      #expect(slice.kind == .decode && state.length == 1340 + count)
      if count <= 4 {
        #expect(passages(slice) == first)
        expectSelections(within: first)
      } else {
        #expect(slice.selection == .decoding(step: count - 5))
        let chunks = Set(first.chunks(of: 8))
        #expect(selectedBlocks().contains { !chunks.contains($0) })
      }
    }
    // What the question drew on stays known.
    #expect(!state.focus.drawn.isEmpty)
    // What is stored next attends everywhere.
    state.end()
    state.begin([text[1340]], .store(observed: 0))
    let next = try #require(try step(&state, id))
    #expect(next.kind == .prefill && next.selection == .everywhere)
  }

  /// Steps of prompts end at multiples of 1,024; a question does not.
  @Test(arguments: [1016, 1020, 1024])
  func aQuestionIsOneStepWhereverItStands(_ start: Int) throws {
    var state = SequenceState(attention: attention)
    try stored(&state, Array(text[..<start]))
    ask(&state, Array(text[start..<start + 12]))
    let probe = try #require(try step(&state, id))
    #expect(probe.kind == .probe && probe.tokens.count == 12)
    let question = try #require(try step(&state, id))
    #expect(question.kind == .prefill && question.tokens == probe.tokens)
    #expect(passages(question) != nil)
    #expect(try step(&state, id)?.kind == .decode)
  }

  @Test func aProbeLeavesNothingBehind() throws {
    var state = SequenceState(attention: attention)
    try stored(&state, Array(text[..<1300]))
    let copy = runner.fork(id)
    var other = state.forked()
    func answer(_ state: inout SequenceState, _ id: SequenceID) throws -> [TokenID] {
      ask(&state, Array(text[1300..<1340]))
      var tokens: [TokenID] = []
      while let slice = try step(&state, id) { if slice.kind == .decode { tokens += slice.tokens } }
      state.end()
      return tokens
    }
    // Another question, probed and forgotten.
    ask(&other, Array(text[1350..<1390]))
    _ = try step(&other, copy)
    other.end()
    #expect(try answer(&other, copy) == answer(&state, id))
  }
}
