// SPDX-License-Identifier: Apache-2.0

package import HiPCompute
package import HiPTokenization

/// The answer to one request as it grows.
package struct Answer: Sendable {
  private let endTokens: Set<TokenID>
  private let tokenizer: any Tokenizer
  /// The most tokens that it may have.
  package let maximumTokens: Int
  private var sampler: Sampler
  private var decoder = IncrementalDecoder()
  private var stops: StopMatcher
  /// The next text is the first, whose space the tokenizer has put there.
  private var dropsSpace: Bool
  package private(set) var tokenCount = 0
  /// Nil while it goes on.
  package private(set) var reason: Completion.Reason?

  package init(_ request: GenerationRequest, tokenizer: any Tokenizer, endTokens: Set<TokenID>) {
    // A stop text that is a control token never comes as text.
    self.endTokens = endTokens.union(request.stop.compactMap { tokenizer.specialToken($0) })
    self.tokenizer = tokenizer
    maximumTokens = request.maximumTokens
    sampler = Sampler(request.sampling)
    stops = StopMatcher(request.stop)
    dropsSpace = tokenizer.prefixesSpace && request.opensTurn
    if maximumTokens == 0 { reason = .length }
  }

  /// What the device is to find for the next token.
  package var request: CandidateRequest { sampler.request }

  /// Chooses the next token.
  /// - Returns: the token, nil when it ends the turn; and the text that can be shown now.
  package mutating func next(_ candidates: Candidates) -> (token: TokenID?, text: String) {
    let token = sampler.next(candidates)
    tokenCount += 1
    guard !endTokens.contains(token) else { return (nil, finish(.stop)) }
    var bytes = tokenizer.isControl(token) ? [] : tokenizer.bytes(of: token)
    if dropsSpace, !bytes.isEmpty {
      if bytes.first == 0x20 { bytes.removeFirst() }
      dropsSpace = false
    }
    var (text, stopped) = stops.append(decoder.append(bytes))
    if stopped {
      reason = .stop
    } else if tokenCount >= maximumTokens {
      text += finish(.length)
    }
    return (token, text)
  }

  /// Ends the answer; the text that was held back.
  package mutating func finish(_ reason: Completion.Reason) -> String {
    self.reason = reason
    let (text, _) = stops.append(decoder.finish())
    return text + stops.finish()
  }
}
