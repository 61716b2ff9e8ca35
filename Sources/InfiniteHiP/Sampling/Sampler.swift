// SPDX-License-Identifier: Apache-2.0

internal import Foundation
package import HiPTokenization

/// Chooses tokens by the options, in the order penalty, top-k, top-p, min-p, temperature.
package struct Sampler {
  private let options: SamplingOptions
  private var generator: SeededGenerator
  private var recent: [TokenID] = []

  package init(_ options: SamplingOptions) {
    self.options = options
    generator = SeededGenerator(seed: options.seed)
  }

  /// The next token for `logits`, `[vocabulary]`.
  package mutating func next(_ logits: [Float]) -> TokenID {
    let token = choose(penalised(logits))
    recent.append(token)
    if recent.count > options.repeatWindow { recent.removeFirst() }
    return token
  }

  private func penalised(_ logits: [Float]) -> [Float] {
    guard options.repeatPenalty != 1 else { return logits }
    var logits = logits
    let penalty = Float(options.repeatPenalty)
    for token in Set(recent) {
      let value = logits[Int(token)]
      logits[Int(token)] = value > 0 ? value / penalty : value * penalty
    }
    return logits
  }

  private mutating func choose(_ logits: [Float]) -> TokenID {
    guard options.temperature > 0 else { return Self.best(logits) }
    // Only the ids that top-k keeps are sorted.
    var ids = Array(logits.indices)
    if options.topK > 0, options.topK < ids.count {
      let cut = logits.sorted(by: >)[options.topK - 1]
      ids = ids.filter { logits[$0] >= cut }
    }
    ids.sort { logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1 }
    if options.topK > 0 { ids = Array(ids.prefix(options.topK)) }
    let top = Double(logits[ids[0]])
    let masses = ids.map { exp(Double(logits[$0]) - top) }
    let total = masses.reduce(0, +)
    var kept = 0
    var keptMass = 0.0
    while kept < ids.count {
      if kept > 0, keptMass >= options.topP * total || masses[kept] < options.minP { break }
      keptMass += masses[kept]
      kept += 1
    }
    let weights = ids[..<kept].map { exp((Double(logits[$0]) - top) / options.temperature) }
    let sum = weights.reduce(0, +)
    guard sum.isFinite, sum > 0 else { return Self.best(logits) }
    var point = Double.random(in: 0..<sum, using: &generator)
    for (index, weight) in weights.enumerated() {
      point -= weight
      if point < 0 { return TokenID(ids[index]) }
    }
    return TokenID(ids[kept - 1])
  }

  /// The most probable token; of equal ones the first.
  private static func best(_ logits: [Float]) -> TokenID {
    var best = 0
    for index in logits.indices where logits[index] > logits[best] { best = index }
    return TokenID(best)
  }
}
