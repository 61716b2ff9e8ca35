// SPDX-License-Identifier: Apache-2.0

internal import Foundation
package import HiPCompute
package import HiPTokenization

/// Chooses tokens by the options, in the order penalty, top-k, top-p, min-p, temperature.
///
/// The device applies the penalty and finds the candidates; what is left is a choice among few.
package struct Sampler: Sendable {
  private let options: SamplingOptions
  private var generator: SeededGenerator
  private var recent: [TokenID] = []
  /// How often the answer holds each token, where penalties go by that.
  private var counts: [TokenID: Int] = [:]

  package init(_ options: SamplingOptions) {
    self.options = options
    generator = SeededGenerator(seed: options.seed)
  }

  /// What the device is to find for the next token.
  package var request: CandidateRequest {
    var request = CandidateRequest.greedy
    if options.temperature > 0 {
      request.count = options.topK
      // With a top-k its probabilities are taken among the candidates, so all of those are needed.
      request.mass = options.topK > 0 ? 1 : options.topP
      request.share = options.topK > 0 ? 0 : options.minP
    }
    if options.repeatPenalty != 1 {
      request.repeated = recent
      request.penalty = Float(options.repeatPenalty)
    }
    request.bias = options.bias.mapValues { Float($0) }
    for (token, count) in counts {
      let penalty = options.presencePenalty + options.frequencyPenalty * Double(count)
      request.bias[token, default: 0] -= Float(penalty)
    }
    return request
  }

  /// The next token, of the candidates that `request` led to; nil when there are none.
  package mutating func next(_ candidates: Candidates) -> TokenID? {
    guard let token = choose(wanted(of: candidates)) else { return nil }
    recent.append(token)
    if recent.count > options.repeatWindow { recent.removeFirst() }
    if options.presencePenalty != 0 || options.frequencyPenalty != 0 {
      counts[token, default: 0] += 1
    }
    return token
  }

  /// Those that the options ask for, where more were found to be reported.
  private func wanted(of candidates: Candidates) -> Candidates {
    let count = request.count
    guard count > 0, candidates.ids.count > count else { return candidates }
    return Candidates(
      ids: Array(candidates.ids.prefix(count)), logits: Array(candidates.logits.prefix(count)),
      logSumExp: candidates.logSumExp)
  }

  private mutating func choose(_ candidates: Candidates) -> TokenID? {
    guard options.temperature > 0, let top = candidates.logits.max().map(Double.init) else {
      return candidates.ids.first
    }
    let masses = candidates.logits.map { exp(Double($0) - top) }
    let total =
      options.topK > 0 ? masses.reduce(0, +) : exp(candidates.logSumExp - top)
    var kept = 0
    var keptMass = 0.0
    while kept < masses.count {
      let isEnough = options.topP < 1 && keptMass >= options.topP * total
      if kept > 0, isEnough || masses[kept] < options.minP { break }
      keptMass += masses[kept]
      kept += 1
    }
    let weights = candidates.logits[..<kept].map { exp((Double($0) - top) / options.temperature) }
    let sum = weights.reduce(0, +)
    guard sum.isFinite, sum > 0 else { return candidates.ids[0] }
    var point = Double.random(in: 0..<sum, using: &generator)
    for (index, weight) in weights.enumerated() {
      point -= weight
      if point < 0 { return candidates.ids[index] }
    }
    return candidates.ids[kept - 1]
  }
}
