// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

/// What holds for sessions whatever the model says, tried on the demo model.
@Suite struct SessionTests {
  /// Sparse from the first thousand tokens on, so that short texts exercise selection.
  static let sparse = makeSparse(refresh: 2)

  /// Four blocks of queries share the scan.
  static let shared = makeSparse(refresh: 2, window: 256, queryBlocks: 4)

  /// The first four tokens of an answer look where their question did.
  static let focused = makeSparse(
    refresh: 2, focus: Focus(passage: 16, keep: 256, answer: 4))

  static func makeSparse(
    refresh: Int, window: Int = 128, queryBlocks: Int = 1, focus: Focus? = nil
  ) -> AttentionChoice {
    var scan = PruningStage(
      chunkSize: 8, keep: 512, refreshInterval: 2 * refresh, queryStride: 2, estimate: .means)
    scan.queryBlocks = queryBlocks
    var one = scan
    one.queryBlocks = 1
    let last = PruningStage(
      chunkSize: 8, keep: 256, refreshInterval: refresh, estimate: .exact)
    let pruning = try? HierarchicalPruning(
      reach: StreamingWindow(sink: 64, window: window), stages: [scan, last],
      fineStages: [one, last],
      scoring: HierarchicalPruning.Scoring(sharing: .group, ranking: .share, positions: .infllm)
    ).focusing(focus)
    return AttentionChoice(name: "test", policy: pruning.map { .hierarchical($0) } ?? .dense)
  }

  @Test func theTestsPoliciesAreValid() {
    for choice in [Self.sparse, Self.shared, Self.focused] { #expect(choice.policy != .dense) }
  }

  @Test(arguments: [8, -9, .max])
  func layersThatAModelDoesNotHaveAreAnError(_ layer: Int) async throws {
    let pruning = try HierarchicalPruning(
      reach: StreamingWindow(sink: 0, window: 64), stages: [PruningStage(chunkSize: 8, keep: 64)],
      exceptions: [LayerException(layers: [0, layer], .dense)])
    let model = try await load()
    await #expect(throws: InfiniteHiPError.self) {
      try await model.makeSession(
        attention: AttentionChoice(name: "test", policy: .hierarchical(pruning)))
    }
  }

  static let choices = [
    AttentionChoice.named("dense"), .named("streaming"), .named("infinitehip-3k"), sparse, shared,
    focused,
  ]
  .compactMap { $0 }

  private func load() async throws -> LanguageModel {
    try await LanguageModel.load(DemoModel.path) { try CPUBackend(threads: 2) }
  }

  private func ids(_ count: Int, _ model: LanguageModel) throws -> [TokenID] {
    Array(try model.tokens(of: .text(DemoModel.novel(count * 6)), atBeginning: true).prefix(count))
  }

  @Test(arguments: choices)
  func aTextReadInPiecesGivesWhatItGivesWhole(_ choice: AttentionChoice) async throws {
    let model = try await load()
    let ids = try ids(2100, model)
    let whole = try await model.makeSession(attention: choice).negativeLogLikelihoods(of: ids)
    let pieces = try await model.makeSession(attention: choice)
    var values: [Double] = []
    // Pieces end where blocks of queries do that share a stage.
    for range in [0..<768, 768..<1024, 1024..<2099] {
      values += try await pieces.negativeLogLikelihoods(
        of: Array(ids[range.lowerBound...range.upperBound]))
    }
    #expect(values == whole)
  }

  @Test(arguments: choices)
  func sessionsSideBySideGiveWhatTheyGiveAlone(_ choice: AttentionChoice) async throws {
    let model = try await load()
    let texts = try (0..<3).map { Array(try ids(1500, model)[($0 * 100)..<($0 * 100 + 1200)]) }
    var alone: [[Double]] = []
    for text in texts {
      alone.append(try await model.makeSession(attention: choice).negativeLogLikelihoods(of: text))
    }
    let together = try await withThrowingTaskGroup(of: (Int, [Double]).self) { group in
      for (index, text) in texts.enumerated() {
        group.addTask {
          (index, try await model.makeSession(attention: choice).negativeLogLikelihoods(of: text))
        }
      }
      return try await group.reduce(into: [[Double]](repeating: [], count: 3)) { $0[$1.0] = $1.1 }
    }
    #expect(together == alone)
  }

  @Test(arguments: choices)
  func aForkGoesOnAsTheOriginalWould(_ choice: AttentionChoice) async throws {
    let model = try await load()
    let context = try ids(1300, model)
    let request = GenerationRequest(.text(" And then he said"), maximumTokens: 24)
    let whole = try await model.makeSession(attention: choice)
    _ = try await whole.collect(GenerationRequest(.tokens(context), maximumTokens: 0))
    let first = try await whole.fork()
    let second = try await whole.fork()
    // The first fork writes into what was a shared page.
    _ = try await first.collect(
      GenerationRequest(.text("Something else entirely."), maximumTokens: 8))
    let forked = try await second.collect(request)
    let original = try await whole.collect(request)
    #expect(forked.text == original.text)
    #expect(forked.completion.cachedTokens == context.count)
  }

  /// Stages that are computed anew at every step, where nothing depends on the steps before, and an answer
  /// that keeps its focus when it goes on.
  @Test(arguments: [makeSparse(refresh: 1), focused] as [AttentionChoice])
  func decodingEqualsReadingTokenByToken(_ choice: AttentionChoice) async throws {
    let model = try await load()
    let prompt = try ids(1200, model)
    let whole = try await model.makeSession(attention: choice)
    let answer = try await whole.collect(
      GenerationRequest(.tokens(prompt), maximumTokens: 13))
    let single = try await model.makeSession(attention: choice)
    var text = try await single.collect(GenerationRequest(.tokens(prompt), maximumTokens: 1)).text
    for _ in 1..<13 {
      // The last token is pending, and read now; another one is generated.
      let next = try await single.collect(GenerationRequest(.tokens([]), maximumTokens: 1))
      text += next.text
    }
    #expect(text == answer.text)
    #expect(single.tokenCount == whole.tokenCount)
  }

  @Test func anAnswerGoesOnWithoutItsSession() async throws {
    let model = try await load()
    let request = GenerationRequest(.text("It was"), maximumTokens: 24)
    let whole = try await model.makeSession().collect(request)
    let stream = try await model.makeSession().respond(to: request)
    var text = ""
    for try await case .text(let more) in stream { text += more }
    #expect(text == whole.text)
  }

  @Test func aRefusedMessageIsNoTurn() async throws {
    let model = try await load()
    let session = try await model.makeSession(contextLimit: 64)
    let long = ChatMessage(role: .user, content: try DemoModel.novel(2000))
    await #expect(throws: InfiniteHiPError.self) {
      try await session.collect(GenerationRequest(.message(long), maximumTokens: 4))
    }
    let request = GenerationRequest(
      .message(ChatMessage(role: .user, content: "Hello")), maximumTokens: 4)
    let fresh = try await model.makeSession(contextLimit: 64).collect(request)
    let after = try await session.collect(request)
    #expect(after.completion.promptTokens == fresh.completion.promptTokens)
    #expect(after.text == fresh.text)
  }

  /// A message behind one that was cancelled begins where that one got to.
  @Test func aCancelledMessageLeavesACleanContext() async throws {
    let model = try await load()
    let session = try await model.makeSession()
    let long = ChatMessage(role: .user, content: try DemoModel.novel(20_000))
    for try await _ in session.respond(to: GenerationRequest(.message(long), maximumTokens: 4)) {
      break
    }
    let request = GenerationRequest(
      .message(ChatMessage(role: .user, content: "Hello")), maximumTokens: 4)
    let answer = try await session.collect(request)
    #expect(session.tokenCount >= answer.completion.promptTokens)
    try await session.clear()
    #expect(session.tokenCount == 0)
    let again = try await session.collect(request)
    let fresh = try await model.makeSession().collect(request)
    #expect(again.text == fresh.text)
    #expect(again.completion.promptTokens == fresh.completion.promptTokens)
  }

  /// What a fork of a busy session would take is not taken.
  @Test func aForkThatIsRefusedTakesNoMemory() async throws {
    let model = try await load()
    let before = try await model.usedCacheByteCount()
    do {
      let session = try await model.makeSession()
      let stream = session.respond(
        to: GenerationRequest(.text(try DemoModel.novel(60_000)), maximumTokens: 0))
      var refused = false
      for try await case .progress(let prefilled, _) in stream where prefilled > 0 && !refused {
        await #expect(throws: InfiniteHiPError.self) { try await session.fork() }
        await #expect(throws: InfiniteHiPError.self) { try await session.clear() }
        refused = true
      }
      #expect(refused)
      #expect(try await model.usedCacheByteCount() > before)
    }
    // Sessions are closed by a task of their own.
    for _ in 0..<200 where try await model.usedCacheByteCount() != before {
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(try await model.usedCacheByteCount() == before)
  }

  @Test func aQuestionIsProbedWhereThePolicyFocuses() async throws {
    let model = try await load()
    let prompt = try ids(1300, model)
    func selections(_ choice: AttentionChoice) async throws -> (selections: Int, tokens: Int) {
      let session = try await model.makeSession(attention: choice)
      _ = try await session.collect(GenerationRequest(.tokens(prompt), maximumTokens: 0))
      let before = try await model.counters().selections
      let request = GenerationRequest(.text(" And then he said"), maximumTokens: 7)
      let answer = try await session.collect(request)
      // The last token is not stored.
      #expect(session.tokenCount == prompt.count + 4 + answer.completion.completionTokens)
      return (try await model.counters().selections - before, answer.completion.completionTokens)
    }
    let layers = 8
    let (plain, plainTokens) = try await selections(Self.makeSparse(refresh: 1))
    #expect(plain == layers * plainTokens)
    // The question twice, four tokens among its passages, every second one of those behind them.
    let (focused, tokens) = try await selections(Self.focused)
    #expect(focused == layers * (2 + 4 + (tokens - 4) / 2))
  }

  @Test func automaticEqualsDenseWithinTheTrainedLength() async throws {
    let model = try await load()
    let ids = try ids(1500, model)
    let dense = try await model.makeSession(
      attention: AttentionChoice(name: "dense", policy: .dense)
    )
    .negativeLogLikelihoods(of: ids)
    #expect(try await model.makeSession().negativeLogLikelihoods(of: ids) == dense)
  }

  @Test func cancellingEndsWithinOneStep() async throws {
    let model = try await load()
    let session = try await model.makeSession()
    let text = try DemoModel.novel(60_000)
    var lastRead = 0
    for try await event in session.respond(to: GenerationRequest(.text(text))) {
      if case .progress(let read, let total) = event {
        #expect(total > 8000)
        lastRead = read
        if read >= 1024 { break }
      }
    }
    // The next request waits for what was under way.
    _ = try await session.collect(GenerationRequest(.text("x"), maximumTokens: 1))
    #expect(session.tokenCount <= lastRead + 1024 + 3)
  }

  @Test func whatCannotBeServedIsSaid() async throws {
    let model = try await load()
    let session = try await model.makeSession(contextLimit: 100)
    await #expect {
      try await session.collect(GenerationRequest(.text(DemoModel.novel(2000))))
    } throws: {
      guard case .contextExceeded(let needed, 100)? = ($0 as? InfiniteHiPError)?.code else {
        return false
      }
      return needed > 300 && "\($0)".contains("--context")
    }
    #expect(session.tokenCount == 0)
    await #expect { try await session.collect(GenerationRequest(.text(""))) } throws: {
      "\($0)".contains("empty")
    }
    await #expect { try await session.collect(GenerationRequest(.tokens([9999]))) } throws: {
      "\($0)".contains("9999")
    }
    var options = SamplingOptions()
    options.topP = 0
    let request = GenerationRequest(.text("x"), sampling: options)
    await #expect(throws: InfiniteHiPError.self) { try await session.collect(request) }
    await #expect(throws: InfiniteHiPError.self) { try await model.makeSession(contextLimit: 0) }
  }

  @Test func anAnswerEndsWhereTheContextDoes() async throws {
    let model = try await load()
    let session = try await model.makeSession(contextLimit: 30)
    let answer = try await session.collect(
      GenerationRequest(.text("Once upon a time there was"), maximumTokens: 400))
    #expect(answer.completion.reason == .context)
    #expect(session.tokenCount <= 30)
  }

  @Test func stopTextsAndLengthEndAnAnswer() async throws {
    let model = try await load()
    let all = try await model.makeSession().collect(
      GenerationRequest(.text("Prince Andrew looked at"), maximumTokens: 20))
    #expect(all.completion.reason == .length)
    #expect(all.completion.completionTokens == 20)
    let word = try #require(all.text.split(separator: " ").dropFirst(2).first)
    let cut = try await model.makeSession().collect(
      GenerationRequest(.text("Prince Andrew looked at"), maximumTokens: 20, stop: [String(word)]))
    #expect(cut.completion.reason == .stop)
    #expect(all.text.hasPrefix(cut.text))
    #expect(!cut.text.contains(word))
  }

  @Test func aConversationKeepsItsContext() async throws {
    let model = try await load()
    let session = try await model.makeSession()
    let fact = "The home of Clara Kendall is in Amsterdam. He went on. "
    let first = try await session.collect(
      GenerationRequest(
        .message(ChatMessage(role: .user, content: fact + "\n\nWhere does Clara Kendall live?"))))
    #expect(first.text.contains("Amsterdam"))
    let length = session.tokenCount
    let second = try await session.collect(
      GenerationRequest(
        .message(ChatMessage(role: .user, content: "Where does Clara Kendall live?"))))
    #expect(second.completion.cachedTokens == length)
    #expect(second.text.contains("Amsterdam"))
    try await session.clear()
    #expect(session.tokenCount == 0)
  }

  @Test func aMessageBehindADocumentClosesNoTurn() async throws {
    let model = try await load()
    let session = try await model.makeSession()
    _ = try await session.collect(GenerationRequest(.text("A text."), maximumTokens: 0))
    let message = GenerationRequest.Prompt.message(ChatMessage(role: .user, content: "What?"))
    let plain = try model.tokens(of: message, atBeginning: false)
    let first = try await session.collect(GenerationRequest(message, maximumTokens: 3))
    #expect(first.completion.promptTokens - first.completion.cachedTokens == plain.count)
    // Behind an answer its turn is closed, in a fork too: the last token, the mark and a line's end.
    let fork = try await session.fork()
    for session in [session, fork] {
      let second = try await session.collect(GenerationRequest(message, maximumTokens: 3))
      let stored = second.completion.promptTokens - second.completion.cachedTokens
      #expect(stored == plain.count + 1 + 2)
    }
  }

  @Test func aDecodingStepWaitsOnceAndAllocatesNothing() async throws {
    let model = try await load()
    let session = try await model.makeSession(attention: Self.sparse)
    _ = try await session.collect(GenerationRequest(.tokens(ids(1100, model)), maximumTokens: 2))
    let before = try await model.counters()
    let answer = try await session.collect(
      GenerationRequest(.text(" He said that it was"), maximumTokens: 40))
    let after = try await model.counters()
    #expect(after.allocations == before.allocations)
    // One wait per token: the prompt's, and each that was stored.
    #expect(after.submits - before.submits == answer.completion.completionTokens)
    // Refresh every second step at the latest: about half of 8 layers × tokens.
    #expect(after.selections > before.selections)
    #expect(after.selections - before.selections < 8 * (answer.completion.completionTokens / 2 + 3))
  }

  @Test func aStreamThatIsDroppedBeforeItBeginsLeavesTheSessionBusy() async throws {
    let model = try await load()
    let session = try await model.makeSession()
    let long = session.respond(to: GenerationRequest(.text(try DemoModel.novel(40_000))))
    var events = long.makeAsyncIterator()
    _ = try await events.next()
    // Refused at once, and dropped: the first request is under way all the same.
    _ = session.respond(to: GenerationRequest(.text("x")))
    await #expect {
      try await session.collect(GenerationRequest(.text("x"), maximumTokens: 1))
    } throws: {
      ($0 as? InfiniteHiPError)?.code == .busy
    }
  }

  @Test func twoSessionsOfMoreThanHalfOfTheMemoryAreRefused() async throws {
    // A block of 64 tokens takes 293 KB here: 8 layers of 2 heads, with means.
    let limit = 10 * 8 * 2 * (2 * 64 * 128 + 8 * 132)
    let model = try await LanguageModel.load(DemoModel.path, cacheLimit: limit) {
      try CPUBackend(threads: 2)
    }
    let tokens = try ids(380, model)
    let first = try await model.makeSession()
    let second = try await model.makeSession()
    _ = try await first.collect(GenerationRequest(.tokens(tokens), maximumTokens: 0))
    await #expect {
      try await second.collect(GenerationRequest(.tokens(tokens), maximumTokens: 0))
    } throws: {
      guard case .outOfMemory(let needed)? = ($0 as? InfiniteHiPError)?.code else { return false }
      return needed == limit / 10 * 6
    }
    // What is refused takes nothing, and what is given back can be had.
    #expect(second.tokenCount == 0)
    try await first.clear()
    _ = try await second.collect(GenerationRequest(.tokens(tokens), maximumTokens: 0))
    #expect(second.tokenCount == 380)
  }
}
