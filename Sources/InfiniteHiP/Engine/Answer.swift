// SPDX-License-Identifier: Apache-2.0

package import HiPCompute
internal import HiPGrammar
package import HiPModels
package import HiPTokenization

/// The answer to one request as it grows.
package struct Answer: Sendable {
  private let endTokens: Set<TokenID>
  private let tokenizer: any Tokenizer
  /// The most tokens that it may have.
  package let maximumTokens: Int
  private let alternatives: Int?
  private let controlTokens: GenerationRequest.ControlTokens
  private var sampler: Sampler
  private var decoder = IncrementalDecoder()
  private var stops: StopMatcher
  private var constraint: ConstrainedText?
  /// Its tokens from first to last, where it is only asked how probable they are; empty: it is free.
  private let dictation: [TokenID]
  /// The next text is the first, whose space the tokenizer has put there.
  private var dropsSpace: Bool
  /// Its tokens, the one that ended it left out.
  package private(set) var tokens: [TokenID] = []
  /// Tokens generated, the one that ended it included.
  package private(set) var tokenCount = 0
  /// Nil while it goes on.
  package private(set) var reason: Completion.Reason?

  package init(_ request: GenerationRequest, tokenizer: any Tokenizer, endTokens: Set<TokenID>) {
    // A stop text that is a control token never comes as text.
    self.endTokens =
      (request.endings == .ofTheModel ? endTokens : [])
      .union(request.stop.compactMap { tokenizer.specialToken($0) })
    self.tokenizer = tokenizer
    maximumTokens = request.maximumTokens
    dictation = []
    alternatives = request.alternatives
    controlTokens = request.controlTokens
    sampler = Sampler(request.sampling)
    stops = StopMatcher(request.stop)
    dropsSpace = tokenizer.prefixesSpace && request.opensTurn
    if maximumTokens == 0 {
      reason = .length
    } else {
      constraint = request.constraint.map { ConstrainedText($0, endTokens: endTokens) }
    }
  }

  /// An answer that is to be just these tokens.
  package init(dictating tokens: [TokenID], tokenizer: any Tokenizer) {
    dictation = tokens
    endTokens = []
    self.tokenizer = tokenizer
    maximumTokens = tokens.count
    alternatives = nil
    controlTokens = .hidden
    sampler = Sampler(SamplingOptions())
    stops = StopMatcher([])
    dropsSpace = false
    if tokens.isEmpty { reason = .length }
  }

  /// The next token of a dictated answer.
  private var dictated: TokenID? { tokens.count < dictation.count ? dictation[tokens.count] : nil }

  /// What a decoding step is to bring: the next token, or how probable it is.
  package var output: SequenceSlice.Output {
    dictated.map { .negativeLogLikelihoods([$0], alternatives: 0) } ?? .candidates(request)
  }

  /// What the device is to find for the next token.
  package var request: CandidateRequest {
    var request = sampler.request
    if let alternatives, request.count > 0 { request.count = max(request.count, alternatives) }
    request.filter = constraint?.filter
    return request
  }

  /// What a token brought.
  package struct Step: Sendable {
    /// What the context goes on with; nil at the end of the turn.
    package var token: TokenID?
    /// The text that can be shown now.
    package var text = ""
    /// The token with its probability, where that is reported.
    package var report: GeneratedToken?
  }

  /// Chooses the next token; a dictated answer needs no candidates.
  package mutating func next(_ candidates: Candidates?) -> Step {
    let chosen = dictated ?? candidates.flatMap { sampler.next($0) }
    tokenCount += 1
    // Without candidates a constraint cannot be met by any token of the vocabulary.
    guard let token = chosen, !endTokens.contains(token) else {
      return Step(text: finish(.stop))
    }
    tokens.append(token)
    var step = Step(token: token, report: candidates.flatMap { report(token, $0) })
    var bytes =
      controlTokens == .named || !tokenizer.isControl(token) ? tokenizer.bytes(of: token) : []
    constraint?.append(bytes)
    if dropsSpace, !bytes.isEmpty {
      if bytes.first == 0x20 { bytes.removeFirst() }
      dropsSpace = false
    }
    let stopped: Bool
    (step.text, stopped) = stops.append(decoder.append(bytes))
    if stopped {
      reason = .stop
    } else if constraint?.isComplete ?? false {
      step.text += finish(.stop)
    } else if tokenCount >= maximumTokens {
      step.text += finish(.length)
    }
    return step
  }

  private func report(_ token: TokenID, _ candidates: Candidates) -> GeneratedToken? {
    guard let alternatives, let place = candidates.ids.firstIndex(of: token) else { return nil }
    func choice(_ place: Int) -> GeneratedToken.Choice {
      GeneratedToken.Choice(
        id: candidates.ids[place],
        logProbability: Double(candidates.logits[place]) - candidates.logSumExp)
    }
    let order = candidates.ids.indices.sorted { candidates.logits[$0] > candidates.logits[$1] }
    return GeneratedToken(
      choice: choice(place), alternatives: order.prefix(alternatives).map(choice))
  }

  /// Ends the answer; the text that was held back.
  package mutating func finish(_ reason: Completion.Reason) -> String {
    self.reason = reason
    let (text, _) = stops.append(decoder.finish())
    return text + stops.finish()
  }
}
