// SPDX-License-Identifier: Apache-2.0

/// The heads of an attention layer.
public struct AttentionShape: Sendable, Hashable {
  /// Query heads.
  public let heads: Int
  /// Key-value heads; each serves `heads / kvHeads` consecutive query heads.
  public let kvHeads: Int
  /// Elements of a head.
  public let headSize: Int

  /// Stores the counts; `heads` must be a multiple of `kvHeads`.
  public init(heads: Int, kvHeads: Int, headSize: Int) {
    precondition(heads > 0 && kvHeads > 0 && heads % kvHeads == 0 && headSize > 0)
    self.heads = heads
    self.kvHeads = kvHeads
    self.headSize = headSize
  }

  /// Query heads per key-value head.
  public var groupSize: Int { heads / kvHeads }

  /// What the attention scores are multiplied by: 1 / sqrt(head size).
  public var scale: Float { 1 / Float(headSize).squareRoot() }
}
