// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute

/// What one layer of a family does: a value, so that one forward pass serves all families.
///
/// Which norms and biases there are shows in the family's `WeightMap`.
public struct LayerPlan: Sendable, Hashable {
  /// The keys that a query may attend to.
  public let reach: Reach
  /// How positions rotate queries and keys; nil in layers without rotation.
  public let rotary: LayerRotary?
  /// What follows the attention.
  public let feedForward: FeedForwardPlan

  /// The keys that a query may attend to.
  public enum Reach: Sendable, Hashable {
    /// All before it, under the policy of the session.
    case full
    /// This many last ones, its own included, exactly, whatever the policy.
    case sliding(window: StreamingWindow)
  }

  /// Stores the parts.
  public init(reach: Reach = .full, rotary: LayerRotary?, feedForward: FeedForwardPlan) {
    self.reach = reach
    self.rotary = rotary
    self.feedForward = feedForward
  }
}

/// How positions rotate the queries and keys of a layer.
public struct LayerRotary: Sendable, Hashable {
  /// The rotation of texts of any length, or of those that are not long.
  public let embedding: RotaryEmbedding
  /// Another rotation for long texts.
  public let long: Long?

  /// The rotation of texts beyond a length (LongRoPE, arXiv 2402.13753).
  public struct Long: Sendable, Hashable {
    /// The rotation.
    public let embedding: RotaryEmbedding
    /// The longest text that does not take it.
    public let beyond: Int

    /// Stores the parts.
    public init(embedding: RotaryEmbedding, beyond: Int) {
      self.embedding = embedding
      self.beyond = beyond
    }
  }

  /// Stores the parts.
  public init(_ embedding: RotaryEmbedding, long: Long? = nil) {
    self.embedding = embedding
    self.long = long
  }

  /// The rotation in a text of `length` tokens.
  public func embedding(length: Int) -> RotaryEmbedding {
    guard let long, length > long.beyond else { return embedding }
    return long.embedding
  }
}

/// A layer's gated feed-forward block.
public struct FeedForwardPlan: Sendable, Hashable {
  /// Elements between its two halves; of one expert, where there are some.
  public let size: Int
  /// What the gate is passed through.
  public let activation: GateActivation
  /// Nil: one branch that all tokens take.
  public let experts: Experts?

  /// Branches of which each token takes a few.
  public struct Experts: Sendable, Hashable {
    /// How many there are.
    public let count: Int
    /// How a token chooses.
    public let routing: ExpertRouting

    /// Stores the parts.
    public init(count: Int, routing: ExpertRouting) {
      self.count = count
      self.routing = routing
    }
  }

  /// Stores the parts.
  public init(size: Int, activation: GateActivation = .silu, experts: Experts? = nil) {
    self.size = size
    self.activation = activation
    self.experts = experts
  }
}
