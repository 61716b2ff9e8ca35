// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
package import HiPCompute
package import HiPModels
package import HiPTokenization

/// Where a sequence stands: a value that says what its next step is, and goes on by what the step brought.
package struct SequenceState: Sendable {
  package let attention: LayerAttention
  /// Tokens whose keys and values are stored.
  package private(set) var length = 0
  /// Tokens that were generated, but not stored yet.
  package private(set) var pending: [TokenID] = []
  /// First tokens that were prefilled attending everywhere, as they would be in any text that begins alike.
  package private(set) var plainLength = 0
  package private(set) var focus = FocusState()
  /// Decoding steps since the last prefill or the end of a focus: what refresh intervals count.
  private var decodingStep = 0
  /// What is being served.
  package private(set) var work: SequenceWork?
  /// The question has been probed.
  private var isProbed = false

  /// A sequence of which `length` tokens are stored.
  package init(attention: LayerAttention, length: Int = 0) {
    self.attention = attention
    self.length = length
    plainLength = length
  }

  /// Tokens in the context, stored or not.
  package var tokenCount: Int { length + pending.count }

  /// Begins to serve tokens behind those of the context.
  ///
  /// Those that are pending come first.
  package mutating func begin(_ tokens: [TokenID], _ goal: SequenceWork.Goal) {
    var work = SequenceWork(
      tokens: pending + tokens, newCount: tokens.count, goal: goal, cached: length)
    if case .answer(let answer) = goal, answer.reason == nil, !tokens.isEmpty,
      let count = attention.questionLength(endingAt: length + work.tokens.count)
    {
      work.questionStart = max(0, work.tokens.count - count)
    }
    if case .score(let targets, _) = goal { work.scoreStart = work.tokens.count - targets.count }
    self.work = work
    isProbed = false
  }

  /// Ends what is being served; the context stays as far as it got.
  package mutating func end() { work = nil }

  /// Ends what a step may have failed in: stages start anew, what they kept may be of that step.
  package mutating func abort() {
    end()
    decodingStep = 0
  }

  /// A step of it is void and is going to be taken again: stages start anew.
  package mutating func abortStep() { decodingStep = 0 }

  /// Forgets the whole context.
  package mutating func clear() { self = SequenceState(attention: attention) }

  /// A state that goes on from the same context.
  package func forked() -> SequenceState {
    var copy = self
    copy.work = nil
    return copy
  }

  /// The next step of this sequence; nil when there is nothing to do.
  /// - Parameter prefillRows: tokens of a prompt that it takes at most, a power of two.
  package func nextSlice(
    of id: SequenceID, prefillRows: Int = DecoderModel.largestPrefill
  ) -> SequenceSlice? {
    guard let work else { return nil }
    guard work.stored < work.tokens.count else {
      guard case .answer(let answer) = work.goal, answer.reason == nil, let token = pending.first
      else { return nil }
      return decode(token, of: id, answer)
    }
    if case .answer(let answer) = work.goal, answer.reason == nil, work.newCount == 0 {
      return decode(work.tokens[work.stored], of: id, answer)
    }
    return prefill(of: id, work, prefillRows)
  }

  /// Whether what is plain of the prompt has been prefilled.
  package var isPlainDone: Bool {
    guard let work else { return true }
    return work.stored >= work.questionStart ?? work.tokens.count
  }

  private func decode(_ token: TokenID, of id: SequenceID, _ answer: Answer) -> SequenceSlice {
    SequenceSlice(
      sequence: id, tokens: [token], start: length, kind: .decode, attention: attention,
      selection: focus.passages.map { .within($0) } ?? .decoding(step: decodingStep),
      output: answer.output)
  }

  /// Steps end at multiples of their size, so that blocks of queries fall alike however a text comes in
  /// and whoever else is served.
  private func prefill(of id: SequenceID, _ work: SequenceWork, _ rows: Int) -> SequenceSlice {
    // Blocks of queries that share a scan are computed in one step.
    let largest = max(rows, attention.prefillUnit)
    // One that begins within a block ends with it: those that follow fall alike, whatever a step may take.
    let unit = length % attention.prefillUnit == 0 ? largest : attention.prefillUnit
    var end = min(work.tokens.count, work.stored + unit - length % unit)
    for border in [work.questionStart, work.observedFrom, work.scoreStart].compactMap({ $0 })
    where work.stored < border {
      end = min(end, border)
    }
    // A question is probed as one, wherever it stands.
    if let question = work.questionStart, work.stored >= question { end = work.tokens.count }
    func slice(
      _ kind: SequenceSlice.Kind, _ selection: SequenceSlice.Selection,
      _ output: SequenceSlice.Output
    ) -> SequenceSlice {
      SequenceSlice(
        sequence: id, tokens: Array(work.tokens[work.stored..<end]), start: length,
        length: length + work.tokens.count - work.stored, kind: kind, attention: attention,
        selection: selection, output: output)
    }
    switch work.goal {
    case .store: return slice(.prefill, .everywhere, .nothing)
    case .embed: return slice(.prefill, .everywhere, .hiddenState)
    case .score(let targets, let alternatives):
      guard let start = work.scoreStart, work.stored >= start else {
        return slice(.prefill, .everywhere, .nothing)
      }
      return slice(
        .score, .everywhere,
        .negativeLogLikelihoods(
          Array(targets[work.stored - start..<end - start]), alternatives: alternatives))
    case .answer(let answer):
      let output: SequenceSlice.Output =
        end == work.tokens.count && answer.reason == nil ? .candidates(answer.request) : .nothing
      guard let question = work.questionStart, work.stored >= question,
        attention.focusing(at: length) != nil
      else { return slice(.prefill, .everywhere, output) }
      // The question comes twice: what it draws on, attending everywhere, is what it attends to then.
      guard isProbed else { return slice(.probe, .everywhere, .nothing) }
      return slice(.prefill, focus.passages.map { .within($0) } ?? .everywhere, output)
    }
  }

  /// Goes on by what a step of this sequence brought.
  package mutating func apply(_ slice: SequenceSlice, _ output: SliceOutput) -> Progress {
    if slice.kind == .probe {
      if let votes = output.votes, let (pruning, focus) = attention.focusing(at: slice.start) {
        self.focus.begin(with: votes, focus, end: slice.start - pruning.fine.pruningWindow)
      }
      isProbed = true
      return Progress()
    }
    let isQuestion = isProbed && slice.kind == .prefill
    isProbed = false
    if slice.kind == .prefill, !isQuestion, plainLength == length {
      plainLength += slice.tokens.count
    }
    length += slice.tokens.count
    switch slice.kind {
    case .decode:
      // Dense steps, and those within passages, leave nothing that stages could go on from.
      let isResumable = slice.start >= attention.denseLength && focus.passages == nil
      decodingStep = isResumable ? decodingStep + 1 : 0
      focus.countDecoded()
    case .prefill, .score, .probe:
      decodingStep = 0
      if !isQuestion { focus.clear() }
    }
    return advance(slice.tokens.count, output)
  }

  private mutating func advance(_ count: Int, _ output: SliceOutput) -> Progress {
    guard var work else { return Progress() }
    var progress = Progress()
    pending.removeFirst(min(pending.count, count))
    if work.stored < work.tokens.count {
      work.stored += count
      progress.stored = work.stored
    }
    progress.negativeLogLikelihoods = output.negativeLogLikelihoods
    progress.alternatives = output.alternatives
    progress.hiddenState = output.hiddenState
    switch work.goal {
    case .store, .score, .embed: progress.isFinished = work.stored == work.tokens.count
    case .answer(var answer):
      if output.candidates != nil || !output.negativeLogLikelihoods.isEmpty {
        let step = answer.next(output.candidates)
        progress.text = step.text
        progress.token = step.report
        pending = step.token.map { [$0] } ?? []
      }
      progress.isFinished = work.stored == work.tokens.count && answer.reason != nil
      work.goal = .answer(answer)
    }
    self.work = work
    return progress
  }

  /// Ends an answer for want of room; the text that was held back.
  package mutating func cutAnswer() -> String {
    guard case .answer(var answer) = work?.goal else { return "" }
    let text = answer.finish(.context)
    work?.goal = .answer(answer)
    return text
  }

  /// What a step came to, for whoever waits for it.
  package struct Progress: Sendable, Hashable {
    /// Tokens of the prompt that are stored; nil when none were added.
    package var stored: Int?
    /// More of the answer.
    package var text = ""
    /// The token that it ends in, where that is reported.
    package var token: GeneratedToken?
    package var negativeLogLikelihoods: [Double] = []
    /// Of each of these the most probable tokens, where they were asked for.
    package var alternatives: [Candidates] = []
    /// Sum of the last hidden states of some more tokens.
    package var hiddenState: [Double] = []
    package var isFinished = false
  }
}

/// Tokens on their way into a sequence, and what for.
package struct SequenceWork: Sendable {
  package let tokens: [TokenID]
  /// How many of them, the last ones, are the request's own.
  package let newCount: Int
  package fileprivate(set) var goal: Goal
  /// Tokens of the context that were stored before.
  package let cached: Int
  /// Tokens that are stored by now.
  package fileprivate(set) var stored = 0
  /// Where the question begins that is probed.
  fileprivate var questionStart: Int?
  /// Where scoring begins.
  fileprivate var scoreStart: Int?

  fileprivate init(tokens: [TokenID], newCount: Int, goal: Goal, cached: Int) {
    self.tokens = tokens
    self.newCount = newCount
    self.goal = goal
    self.cached = cached
    if case .store(let observed) = goal, observed > 0 {
      observedFrom = tokens.count - min(observed, tokens.count)
    }
  }

  /// Where it begins that each layer is observed.
  package private(set) var observedFrom: Int?

  /// What tokens are stored for.
  package enum Goal: Sendable {
    /// To be there; the last so many are observed.
    case store(observed: Int)
    case answer(Answer)
    /// To learn how probable these tokens are, the last of which follows the last token, and so many of the most
    /// probable ones in their places.
    case score(targets: [TokenID], alternatives: Int = 0)
    /// To learn the sum of the last hidden states.
    case embed
  }

  /// The answer, where there is to be one.
  package var answer: Answer? {
    if case .answer(let answer) = goal { answer } else { nil }
  }
}
