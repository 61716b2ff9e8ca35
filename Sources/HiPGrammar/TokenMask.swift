// SPDX-License-Identifier: Apache-2.0

/// A set of tokens, one bit each.
public struct TokenMask: Sendable, Hashable {
  /// The bits; token 0 is the lowest of the first word.
  public private(set) var words: [UInt64]
  /// How many tokens the set holds.
  public private(set) var count = 0

  /// An empty set, with room for that many tokens.
  public init(tokenCount: Int) {
    words = [UInt64](repeating: 0, count: (max(0, tokenCount) + 63) / 64)
  }

  /// Whether the set holds a token; false for tokens beyond its room.
  public func contains(_ token: Int32) -> Bool {
    guard token >= 0, Int(token >> 6) < words.count else { return false }
    return words[Int(token >> 6)] >> UInt64(token & 63) & 1 != 0
  }

  /// Adds a token, which must lie within the room.
  public mutating func insert(_ token: Int32) {
    let bit = UInt64(1) << UInt64(token & 63)
    if words[Int(token >> 6)] & bit == 0 { count += 1 }
    words[Int(token >> 6)] |= bit
  }
}
