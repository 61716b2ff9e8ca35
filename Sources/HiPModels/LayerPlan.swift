// SPDX-License-Identifier: Apache-2.0

public import HiPAttention

/// What one layer of a family does: a value, so that one forward pass serves all families.
///
/// Which biases and norms of queries and keys there are shows in the weights of a file; `WeightMap` says
/// which of them a family may have.
public struct LayerPlan: Sendable, Hashable {
  /// The keys that a query may attend to.
  public let reach: Reach
  /// How positions rotate queries and keys; nil in layers without rotation.
  public let rotary: RotaryEmbedding?

  /// The keys that a query may attend to.
  public enum Reach: Sendable, Hashable {
    /// All before it, under the policy of the session.
    case full
    /// This many last ones, its own included, exactly, whatever the policy.
    case sliding(window: StreamingWindow)
  }

  /// Stores the parts.
  public init(reach: Reach = .full, rotary: RotaryEmbedding?) {
    self.reach = reach
    self.rotary = rotary
  }
}
