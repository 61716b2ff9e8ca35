// SPDX-License-Identifier: Apache-2.0

public import HiPTokenization

/// How the next token is chosen from its probabilities.
public struct SamplingOptions: Sendable, Hashable {
  /// Divides the logits; 0 always takes the most probable token.
  public var temperature: Double
  /// Keeps the so many most probable tokens; 0 keeps all.
  public var topK: Int
  /// Keeps the most probable tokens that together reach this probability; 1 keeps all.
  public var topP: Double
  /// Keeps tokens with at least this share of the best one's probability; 0 keeps all.
  public var minP: Double
  /// Divides positive and multiplies negative logits of recent tokens; 1 changes nothing.
  public var repeatPenalty: Double = 1
  /// Tokens that count as recent.
  public var repeatWindow: Int = 64
  /// Is taken from the logits of tokens that the answer holds already; 0 changes nothing.
  public var presencePenalty: Double = 0
  /// Is taken from the logits of tokens once for each time that the answer holds them; 0 changes nothing.
  public var frequencyPenalty: Double = 0
  /// What is added to the logits of some tokens.
  public var bias: [TokenID: Double] = [:]
  /// Two runs with the same seed choose alike.
  public var seed: UInt64

  /// Greedy by default.
  public init(
    temperature: Double = 0, topK: Int = 40, topP: Double = 0.9, minP: Double = 0, seed: UInt64 = 0
  ) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.minP = minP
    self.seed = seed
  }

  /// Throws unless every value lies in its range.
  func check() throws(InfiniteHiPError) {
    func refuse(_ name: String, _ value: Any, _ allowed: String) -> InfiniteHiPError {
      InfiniteHiPError(.request, "\(name) is \(value); it must be \(allowed)")
    }
    guard temperature >= 0, temperature.isFinite else {
      throw refuse("temperature", temperature, "0 or more")
    }
    guard topK >= 0 else { throw refuse("top-k", topK, "0 (all) or more") }
    guard topP > 0, topP <= 1 else { throw refuse("top-p", topP, "above 0, at most 1") }
    guard minP >= 0, minP <= 1 else { throw refuse("min-p", minP, "between 0 and 1") }
    guard (0.01...100).contains(repeatPenalty) else {
      throw refuse("repeat penalty", repeatPenalty, "between 0.01 and 100")
    }
    for (name, value) in [
      ("presence penalty", presencePenalty), ("frequency penalty", frequencyPenalty),
    ] {
      guard (-100...100).contains(value) else { throw refuse(name, value, "between -100 and 100") }
    }
    for (token, value) in bias {
      guard (-1000...1000).contains(value) else {
        throw refuse("the bias of token \(token)", value, "between -1000 and 1000")
      }
    }
    guard repeatWindow >= 0 else { throw refuse("repeat window", repeatWindow, "0 or more") }
  }
}

/// SplitMix64: small, fast, and the same on every machine.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// Starts the sequence of `seed`.
  public init(seed: UInt64) { state = seed }

  /// The next number.
  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
