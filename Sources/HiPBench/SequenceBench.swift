// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
package import HiPCompute
package import HiPModels
internal import HiPTokenization
package import InfiniteHiP

/// Several sequences of a model behind random keys and values, stepped by hand, so that steps can be timed.
package final class SequenceBench {
  package let runner: ModelRunner
  private let attention: LayerAttention
  private let depth: Int
  private let ids: [SequenceID]
  private var states: [SequenceState]
  private var scheduler = Scheduler()

  /// Opens `count` sequences and stores `depth` random tokens in each.
  package init(
    _ runner: ModelRunner, _ attention: LayerAttention, _ format: KVFormat, depth: Int, count: Int
  ) throws {
    self.runner = runner
    self.attention = attention
    self.depth = depth
    ids = (0..<count).map { _ in runner.open(format) }
    states = .init(repeating: SequenceState(attention: attention, length: depth), count: count)
    for (index, id) in ids.enumerated() {
      try runner.cache(id).appendRandom(depth, seed: UInt64(index + 1), on: runner.backend)
      scheduler.add(id)
    }
  }

  deinit { for id in ids { runner.close(id) } }

  /// Forgets what stands behind the random tokens.
  private func cut(to length: Int) {
    for (index, id) in ids.enumerated() {
      runner.cache(id).truncate(to: length)
      states[index] = SequenceState(attention: attention, length: length)
    }
  }

  /// Stores `count` tokens in each sequence.
  package func prefill(_ count: Int) throws {
    cut(to: depth)
    for index in ids.indices {
      states[index].begin(tokens(count, at: depth), .store(observed: 0))
    }
    while try step() {}
  }

  /// Prefills a question, the last tokens of the depth, and decodes what of its answer attends to passages only, so that
  /// what follows selects as a text does that goes on.
  package func prefillQuestion(answerTokens: Int) throws {
    let count = min(depth, max(1, attention.questionLength(endingAt: depth) ?? 1))
    cut(to: depth - count)
    let focused = attention.focusing(at: depth - count)?.focus.answer ?? 0
    let request = GenerationRequest(.tokens([]), maximumTokens: focused + answerTokens)
    let vocabulary = NoText(vocabularySize: runner.model.architecture.vocabularySize)
    for index in ids.indices {
      states[index].begin(
        tokens(max(1, count), at: depth - count),
        .answer(Answer(request, tokenizer: vocabulary, endTokens: [])))
    }
    for _ in 0...focused { try decode() }
  }

  /// Decodes one token of each sequence.
  package func decode() throws {
    let wanted = states.map { ($0.work?.answer?.tokenCount ?? 0) + 1 }
    while zip(states, wanted).contains(where: { ($0.work?.answer?.tokenCount ?? 0) < $1 }) {
      guard try step() else { return }
    }
  }

  private func tokens(_ count: Int, at start: Int) -> [TokenID] {
    (0..<count).map { TokenID((start + $0) * 37 % runner.model.architecture.vocabularySize) }
  }

  /// Runs one step for all sequences; false when none has anything to do.
  private func step() throws -> Bool {
    func index(_ id: SequenceID) -> Int { ids.firstIndex(of: id) ?? 0 }
    guard let plan = scheduler.next({ states[index($0)].nextSlice(of: $0) }) else { return false }
    for slice in plan.slices { try runner.cache(slice.sequence).reserve(slice.tokens.count) }
    for (slice, output) in zip(plan.slices, try runner.run(plan)) {
      if let failure = output.failure { throw failure }
      _ = states[index(slice.sequence)].apply(slice, output)
    }
    return true
  }
}

/// A vocabulary without texts: for models of random weights.
private struct NoText: Tokenizer {
  let vocabularySize: Int
  func encode(_ text: String, special: SpecialTokenReading) -> [TokenID] { [] }
  func bytes(of token: TokenID) -> [UInt8] { [] }
  var controlTokens: [String] { [] }
  func specialToken(_ text: String) -> TokenID? { nil }
  func isControl(_ token: TokenID) -> Bool { false }
}
