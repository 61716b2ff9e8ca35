// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import HiPGrammar
import HiPJSON
import HiPModels
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

/// Texts that begin alike: their beginning is computed once, and answers are the same to the bit.
@Suite(.serialized) struct PrefixTests {
  static let choices = [
    AttentionChoice.named("dense"), .named("infinitehip"), .named("h2o"), SessionTests.shared,
    SessionTests.focused,
  ].compactMap { $0 }

  private func load(cacheLimit: Int? = nil) async throws -> LanguageModel {
    try await LanguageModel.load(DemoModel.path, cacheLimit: cacheLimit) {
      try CPUBackend(threads: 2)
    }
  }

  /// What a model answers, and with which probabilities.
  private func answer(
    _ ids: [TokenID], _ model: LanguageModel, _ choice: AttentionChoice,
    _ prefixes: PrefixSharing
  ) async throws -> (tokens: [GeneratedToken], end: Completion) {
    let session = try await model.makeSession(attention: choice, prefixes: prefixes)
    var request = GenerationRequest(.tokens(ids), maximumTokens: 6)
    request.alternatives = 5
    var tokens: [GeneratedToken] = []
    for try await event in session.respond(to: request) {
      switch event {
      case .token(let token): tokens.append(token)
      case .finished(let end): return (tokens, end)
      case .progress, .text: break
      }
    }
    throw CancellationError()
  }

  @Test(arguments: choices)
  func whatTextsShareIsComputedOnce(_ choice: AttentionChoice) async throws {
    let model = try await load()
    let novel = try model.tokens(of: .text(DemoModel.novel(14_000)), atBeginning: true)
    let first = Array(novel.prefix(1400))
    // An agent that changes the middle, one that goes on, one that ends early, and the same once more.
    var changed = first
    changed[700] = changed[700] == 5 ? 6 : 5
    let texts = [
      first, changed, first + novel[1600..<1800], Array(first.prefix(900)), first,
    ]
    var isShared = true
    if case .heavyHitters = choice.policy { isShared = false }
    for (number, text) in texts.enumerated() {
      let shared = try await answer(text, model, choice, .shared)
      let alone = try await answer(text, model, choice, .none)
      let isEqual = shared.tokens == alone.tokens
      #expect(isEqual, "text \(number), \(shared.end.cachedTokens) tokens cached")
      #expect(alone.end.cachedTokens == 0 && shared.end.promptTokens == text.count)
      if number == 0 || !isShared {
        #expect(shared.end.cachedTokens == 0)
      } else {
        #expect(shared.end.cachedTokens >= 512)
        #expect(number != 1 || shared.end.firstDifference == 700)
      }
    }
  }

  /// What a session reads later is no beginning of a text.
  @Test func laterRequestsOfASessionAreNotTakenForBeginnings() async throws {
    let model = try await load()
    let novel = try model.tokens(of: .text(DemoModel.novel(14_000)), atBeginning: true)
    let session = try await model.makeSession(prefixes: .shared)
    _ = try await session.collect(
      GenerationRequest(.tokens(Array(novel[..<600])), maximumTokens: 0))
    let later = Array(novel[1000..<1900])
    _ = try await session.collect(GenerationRequest(.tokens(later), maximumTokens: 2))
    let alone = try await answer(later, model, .automatic, .shared)
    #expect(alone.end.cachedTokens == 0)
    #expect(try await answer(later, model, .automatic, .none).tokens == alone.tokens)
  }

  /// Whoever asks for something of every token gets it, whatever is known of the text.
  @Test func everyTokenIsScoredInSharedSessions() async throws {
    let model = try await load()
    let ids = try model.tokens(of: .text(DemoModel.novel(4000)), atBeginning: true)
    _ = try await answer(ids, model, .automatic, .shared)
    func session(_ prefixes: PrefixSharing) async throws -> Session {
      try await model.makeSession(prefixes: prefixes)
    }
    #expect(
      try await session(.shared).probabilities(of: ids, alternatives: 1)
        == session(.none).probabilities(of: ids, alternatives: 1))
    #expect(try await session(.shared).embedding(of: ids) == session(.none).embedding(of: ids))
  }

  @Test func aCancelledPromptIsNotLost() async throws {
    let model = try await load()
    let novel = try model.tokens(of: .text(DemoModel.novel(60_000)), atBeginning: true)
    let ids = Array(novel.prefix(12_000))
    let session = try await model.makeSession(prefixes: .shared)
    for try await event in session.respond(to: GenerationRequest(.tokens(ids))) {
      if case .progress(let stored, _) = event, stored > 4000 { break }
    }
    let again = try await answer(ids, model, .automatic, .shared)
    #expect(again.end.cachedTokens >= 3840)
    #expect(try await answer(ids, model, .automatic, .none).tokens == again.tokens)
  }

  /// What is kept for later texts gives way to those that are read.
  @Test func whatIsKeptMakesRoom() async throws {
    let bytes = 24 << 20
    let model = try await load(cacheLimit: bytes)
    let novel = try model.tokens(of: .text(DemoModel.novel(80_000)), atBeginning: true)
    for start in stride(from: 0, to: 9000, by: 1500) {
      let text = Array(novel[start..<start + 3000])
      #expect(try await answer(text, model, .automatic, .shared).end.promptTokens == 3000)
      #expect(try await model.usedCacheByteCount() <= bytes)
    }
  }

  /// Layers whose keys lie behind a window have let go of them in the sequence, not in what is kept.
  @Test func slidingLayersGoOnFromWhatIsKept() throws {
    let config = try #require(PlanTests.families.first { $0.name == "gemma3" }).config
    let model = try DecoderModel(
      PlanTests.plan(config), on: CPUBackend(threads: 2, kernels: .baseline))
    let runner = ModelRunner(model, capacity: 1 << 28)
    var numbers = SeededNumbers(9)
    let ids = (0..<3000).map { _ in Int32(numbers.index(below: 96)) }
    let attention = LayerAttention(
      try #require(AttentionChoice.named("dense")), trainedLength: 128)
    func score(_ id: SequenceID, _ part: Range<Int>) throws -> [Double] {
      try runner.reserve(part.count, for: id)
      return try runner.run(
        StepPlan([
          SequenceSlice(
            sequence: id, tokens: Array(ids[part]), start: part.lowerBound, kind: .score,
            attention: attention,
            output: .negativeLogLikelihoods(Array(ids[part]), alternatives: 0))
        ]))[0].negativeLogLikelihoods
    }
    let format = model.architecture.kvFormat(.f32, [.dense])
    let kind = try #require(PrefixKind(format, attention, model.architecture, length: 3000))
    let whole = runner.open(format)
    _ = try score(whole, 0..<1000)
    _ = try score(whole, 1000..<1920)
    // What has been let go of by now is of no use to a text that ends there, but the end is.
    runner.prefixes.keep(ids[..<1920], of: kind, in: runner.cache(whole))
    let rest = try score(whole, 1920..<3000)
    let shorter = runner.open(format)
    let early = runner.prefixes.adopt(
      ids[..<1000], of: kind, unit: 64, into: runner.cache(shorter))
    #expect(early.reused == 0)
    let second = runner.open(format)
    let (reused, _) = runner.prefixes.adopt(
      ids[...], of: kind, unit: 64, into: runner.cache(second))
    #expect(reused == 1920)
    runner.close(whole)
    #expect(try score(second, 1920..<3000) == rest)
  }

  @Test func probabilitiesAndEmbeddings() async throws {
    let model = try await load()
    let ids = try model.tokens(of: .text(DemoModel.novel(3000)), atBeginning: true)
    let likelihoods = try await model.makeSession().negativeLogLikelihoods(of: ids)
    let tokens = try await model.makeSession().probabilities(of: ids, alternatives: 3)
    #expect(tokens.map { -$0.choice.logProbability } == likelihoods)
    #expect(tokens.map(\.choice.id) == Array(ids.dropFirst()))
    for token in tokens {
      #expect(token.alternatives.count == 3)
      #expect(token.alternatives[0].logProbability >= token.choice.logProbability)
    }
    let vector = try await model.makeSession().embedding(of: ids)
    #expect(vector.count == model.architecture.hiddenSize)
    #expect(abs(vector.reduce(0) { $0 + $1 * $1 } - 1) < 1e-9)
    let other = try await model.makeSession().embedding(of: Array(ids.prefix(200)))
    #expect(vector != other)
  }

  /// Answers follow a grammar, greedy and drawn ones, up to their end.
  @Test(arguments: [0, 1.0]) func answersFollowAGrammar(_ temperature: Double) async throws {
    let model = try await load()
    let schema: JSONValue = [
      "type": "object",
      "properties": [
        "name": ["type": "string", "maxLength": 12],
        "ages": ["type": "array", "items": ["type": "integer"], "minItems": 2, "maxItems": 3],
        "kind": ["enum": ["a", "bé", 3]],
      ], "required": ["name", "ages", "kind"],
    ]
    let constraint = model.constraint(try Grammar(schema: schema))
    let options = SamplingOptions(temperature: temperature, topK: 0, topP: 1, seed: 3)
    var request = GenerationRequest(.raw("Who is it?"), sampling: options, maximumTokens: 400)
    request.constraint = constraint
    for _ in 0..<4 {
      let collected = try await model.makeSession().collect(request)
      let value = try JSONValue(Array(collected.text.utf8))
      #expect(value.members?.map(\.key) == ["name", "ages", "kind"])
      #expect((2...3).contains(value["ages"]?.items?.count ?? 0))
      #expect(collected.completion.reason == .stop)
      request.sampling.seed += 1
    }
  }
}
