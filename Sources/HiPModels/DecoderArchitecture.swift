// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute

/// Everything that differs between families of decoders: a value, so that one forward pass serves
/// them all.
public struct DecoderArchitecture: Sendable, Hashable {
  /// The family's name in model files.
  public let name: String
  /// Number of layers.
  public let layerCount: Int
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
  /// How positions turn queries and keys.
  public let rotary: RotaryEmbedding
  /// How the file orders the elements of queries and keys.
  public let rotaryOrder: RotaryOrder
}

/// The weights of a decoder by their role, named as a family's files name them.
struct WeightNames: Sendable {
  let embedding: String
  let outputNorm: String
  /// Absent in files whose output matrix is the embedding.
  let output: String
  let attentionNorm: @Sendable (Int) -> String
  let query: @Sendable (Int) -> String
  let key: @Sendable (Int) -> String
  let value: @Sendable (Int) -> String
  let attentionOutput: @Sendable (Int) -> String
  let feedForwardNorm: @Sendable (Int) -> String
  let gate: @Sendable (Int) -> String
  let up: @Sendable (Int) -> String
  let down: @Sendable (Int) -> String
}
