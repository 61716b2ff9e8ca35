// SPDX-License-Identifier: Apache-2.0

/// The two halves of H2O's cache (arXiv 2306.14048): the most recent keys and those that gathered the
/// most attention so far.
///
/// What leaves is gone for good.
///
/// Kept per key-value head. A key's mass is the sum of its softmax weights over all later queries and
/// the heads that read it, counted from the block of queries in which it arrives. Evictions happen
/// after each block of 64 queries, and after each token in decoding, so that a block sees at most 63
/// keys more than the budget. Kept keys close up: their positions are their ranks (as in
/// StreamingLLM).
public struct HeavyHitters: Sendable, Hashable {
  /// Number of last positions that are never evicted.
  public let recent: Int
  /// Number of keys that stay for the attention they have drawn.
  public let heavy: Int

  /// Queries between evictions while a text is read.
  public static let queryBlock = 64

  /// Checks and stores the two sizes.
  public init(recent: Int, heavy: Int) throws(PolicyError) {
    try checkCount(recent, "recent", atLeast: 1)
    try checkCount(heavy, "heavy", atLeast: 0)
    self.init(unchecked: recent, heavy: heavy)
  }

  init(unchecked recent: Int, heavy: Int) {
    self.recent = recent
    self.heavy = heavy
  }

  /// Keys that are kept per head.
  public var budget: Int { recent + heavy }

  /// What stays of `kept`, ascending pairs of key and mass, once keys up to `end` have arrived.
  ///
  /// Of equal masses the later key stays.
  public func evict(_ kept: [KeptKey], end: Int) -> [KeptKey] {
    guard kept.count > budget else { return kept }
    let old = kept.prefix { $0.key < end - recent }
    let new = kept.dropFirst(old.count)
    let places = max(0, budget - new.count)
    let best = old.sorted { $0.mass != $1.mass ? $0.mass > $1.mass : $0.key > $1.key }
      .prefix(places)
    return best.sorted { $0.key < $1.key } + new
  }

  /// A key that is still there, and the attention it has drawn.
  public struct KeptKey: Sendable, Hashable {
    /// Its position in the text.
    public let key: Int32
    /// Sum of its softmax weights.
    public var mass: Float

    /// Stores the two.
    public init(key: Int32, mass: Float) {
      self.key = key
      self.mass = mass
    }
  }
}
