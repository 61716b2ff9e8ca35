// SPDX-License-Identifier: Apache-2.0

/// The heads of an attention layer, and how their scores are made.
public struct AttentionShape: Sendable, Hashable {
  /// Query heads.
  public let heads: Int
  /// Key-value heads; each serves `heads / kvHeads` consecutive query heads.
  public let kvHeads: Int
  /// Elements of a head.
  public let headSize: Int
  /// What the products of queries and keys are multiplied by.
  public let scale: Float
  /// Scores s become c tanh(s / c); nil: they stay as they are (Gemma 2, arXiv 2408.00118, section 2).
  public let softCap: Float?

  /// Stores the counts; `heads` must be a multiple of `kvHeads`.
  /// - Parameter scale: nil means 1 / sqrt(head size).
  public init(
    heads: Int, kvHeads: Int, headSize: Int, scale: Float? = nil, softCap: Float? = nil
  ) {
    precondition(heads > 0 && kvHeads > 0 && heads % kvHeads == 0 && headSize > 0)
    precondition(softCap.map { $0 > 0 } ?? true)
    self.heads = heads
    self.kvHeads = kvHeads
    self.headSize = headSize
    self.scale = scale ?? 1 / Float(headSize).squareRoot()
    self.softCap = softCap
  }

  /// Query heads per key-value head.
  public var groupSize: Int { heads / kvHeads }
}
