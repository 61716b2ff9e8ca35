// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute

/// Everything that differs between families of decoders, beside the names of their weights.
public struct DecoderArchitecture: Sendable, Hashable {
  /// The family's name in model files.
  public let name: String
  /// What each layer does.
  public let layers: [LayerPlan]
  /// Elements of a token's hidden state.
  public let hiddenSize: Int
  /// Elements between the two halves of the feed-forward block.
  public let feedForwardSize: Int
  /// Number of tokens that the model knows.
  public let vocabularySize: Int
  /// The heads of every layer.
  public let attention: AttentionShape
  /// Tokens that the model was trained on at a time.
  public let trainedLength: Int
  /// Added to the mean square in normalisations.
  public let normEpsilon: Float
  /// How the file orders the elements of queries and keys.
  public let rotaryOrder: RotaryOrder

  /// Stores the parts.
  public init(
    name: String, layers: [LayerPlan], sizes: Sizes, attention: AttentionShape, normEpsilon: Float,
    rotaryOrder: RotaryOrder
  ) {
    self.name = name
    self.layers = layers
    hiddenSize = sizes.hidden
    feedForwardSize = sizes.feedForward
    vocabularySize = sizes.vocabulary
    trainedLength = sizes.trainedLength
    self.attention = attention
    self.normEpsilon = normEpsilon
    self.rotaryOrder = rotaryOrder
  }

  /// Numbers of elements and tokens.
  public struct Sizes: Sendable, Hashable {
    let hidden, feedForward, vocabulary, trainedLength: Int

    /// Stores the numbers.
    public init(hidden: Int, feedForward: Int, vocabulary: Int, trainedLength: Int) {
      self.hidden = hidden
      self.feedForward = feedForward
      self.vocabulary = vocabulary
      self.trainedLength = trainedLength
    }
  }

  /// Number of layers.
  public var layerCount: Int { layers.count }

  /// Elements of a head that take part in rotation.
  public var rotaryDimensions: Int {
    2 * (layers.lazy.compactMap(\.rotary).first?.frequencies.count ?? 0)
  }

  /// How a sequence's keys and values are kept for a policy's stages.
  public func kvFormat(_ type: KVType, _ policies: [AttentionPolicy]) -> KVFormat {
    var sketches: [KeySketch] = []
    for case .hierarchical(let pruning) in policies {
      sketches += pruning.sketches.filter { !sketches.contains($0) }
    }
    return KVFormat(
      layerCount: layerCount, shape: attention, element: type.element, sketches: sketches)
  }
}
