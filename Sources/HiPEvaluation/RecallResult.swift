// SPDX-License-Identifier: Apache-2.0

/// What was measured of one policy's selections at one length.
public struct RecallResult: Sendable, Encodable {
  /// The policy.
  public let policy: String
  /// Tokens of the text.
  public let length: Int
  /// Mean number of selected keys per query.
  public let keys: Double
  /// Mean over layers of the share of the far mass that was selected.
  public let massShare: Double
  /// Mean over layers of the most that as many blocks can hold.
  public let bestShare: Double
  /// Mean over layers of the share of the best blocks that were selected.
  public let topBlocks: Double
  /// One per layer that selects; means over blocks of queries and heads.
  public let layers: [Layer]
  private let task = "recall"

  private enum CodingKeys: String, CodingKey {
    case task, policy, length, keys, massShare, bestShare, topBlocks, layers
  }

  /// One layer's means.
  public struct Layer: Sendable, Encodable {
    /// The layer, counted from 0.
    public let layer: Int
    /// Share of the far mass that was selected.
    public let massShare: Double
    /// The most that as many blocks can hold.
    public let bestShare: Double
    /// Share of the best blocks that were selected.
    public let topBlocks: Double
  }

  init(policy: String, length: Int, keys: Double, layers: [Layer]) {
    self.policy = policy
    self.length = length
    self.keys = keys
    self.layers = layers
    func mean(_ value: (Layer) -> Double) -> Double {
      layers.isEmpty ? 0 : layers.reduce(0) { $0 + value($1) } / Double(layers.count)
    }
    massShare = mean(\.massShare)
    bestShare = mean(\.bestShare)
    topBlocks = mean(\.topBlocks)
  }
}
