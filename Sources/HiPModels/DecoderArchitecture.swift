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
  /// Number of tokens that the model knows.
  public let vocabularySize: Int
  /// The heads of every layer.
  public let attention: AttentionShape
  /// Tokens that the model was trained on at a time, stretched rotation included.
  public let trainedLength: Int
  /// Added to the mean square in normalisations.
  public let normEpsilon: Float
  /// How the file orders the elements of queries and keys.
  public let rotaryOrder: RotaryOrder
  /// What hidden states and logits are multiplied by.
  public let scales: Scales
  /// Whether what attention and feed-forward blocks add is normalised first.
  public let addsNormed: Bool

  /// Stores the parts.
  public init(
    name: String, layers: [LayerPlan], sizes: Sizes, attention: AttentionShape,
    rotaryOrder: RotaryOrder, scales: Scales = Scales(), addsNormed: Bool = false
  ) {
    self.addsNormed = addsNormed
    self.name = name
    self.layers = layers
    hiddenSize = sizes.hidden
    vocabularySize = sizes.vocabulary
    trainedLength = sizes.trainedLength
    normEpsilon = sizes.normEpsilon
    self.attention = attention
    self.rotaryOrder = rotaryOrder
    self.scales = scales
  }

  /// Numbers of elements and tokens, and the number that keeps norms from dividing by zero.
  public struct Sizes: Sendable, Hashable {
    let hidden, vocabulary, trainedLength: Int
    let normEpsilon: Float

    /// Stores the numbers.
    public init(hidden: Int, vocabulary: Int, trainedLength: Int, normEpsilon: Float) {
      self.hidden = hidden
      self.vocabulary = vocabulary
      self.trainedLength = trainedLength
      self.normEpsilon = normEpsilon
    }
  }

  /// What is multiplied on the way from tokens to logits.
  public struct Scales: Sendable, Hashable {
    /// Of the embedding.
    public var embedding: Float = 1
    /// Of what each block adds to the hidden state.
    public var residual: Float = 1
    /// Of the logits.
    public var logits: Float = 1
    /// Logits x become c tanh(x / c); nil: they stay as they are.
    public var logitSoftCap: Float?

    /// Nothing is multiplied.
    public init() {}
  }

  /// Number of layers.
  public var layerCount: Int { layers.count }

  /// Elements between the two halves of the largest feed-forward block.
  public var feedForwardSize: Int { layers.reduce(0) { max($0, $1.feedForward.size) } }

  /// Elements of a head that take part in rotation.
  public var rotaryDimensions: Int {
    2 * (layers.lazy.compactMap(\.rotary).first?.embedding.frequencies.count ?? 0)
  }

  /// How a sequence's keys and values are kept for a policy's stages.
  /// - Parameter releasesSliding: whether the device gives back what lies behind the windows of sliding layers.
  public func kvFormat(
    _ type: KVType, _ policies: [AttentionPolicy], releasesSliding: Bool = true
  ) -> KVFormat {
    var sketches: [KeySketch] = []
    for case .hierarchical(let pruning) in policies {
      sketches += pruning.sketches.filter { !sketches.contains($0) }
    }
    let windows: [Int?] = layers.map { layer in
      if case .sliding(let window) = layer.reach { window.window } else { nil }
    }
    return KVFormat(
      layerCount: layerCount, shape: attention, element: type.element, sketches: sketches,
      windows: windows.contains { $0 != nil } ? windows : [], releasesSliding: releasesSliding)
  }
}
