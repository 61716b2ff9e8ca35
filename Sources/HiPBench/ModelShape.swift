// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
public import HiPModels

/// The shape of a well-known model, to measure with random weights.
public enum ModelShape: String, Sendable, Hashable, CaseIterable {
  case llama1B = "llama-3.2-1b"
  case llama3B = "llama-3.2-3b"
  case llama8B = "llama-3.1-8b"

  /// Everything but the weights.
  public var architecture: DecoderArchitecture {
    switch self {
    case .llama1B:
      llama(
        layers: 16, hidden: 2048, feedForward: 8192,
        AttentionShape(heads: 32, kvHeads: 8, headSize: 64))
    case .llama3B:
      llama(
        layers: 28, hidden: 3072, feedForward: 8192,
        AttentionShape(heads: 24, kvHeads: 8, headSize: 128))
    case .llama8B:
      llama(
        layers: 32, hidden: 4096, feedForward: 14336,
        AttentionShape(heads: 32, kvHeads: 8, headSize: 128))
    }
  }

  /// Whether the embedding is the output matrix too.
  public var isTied: Bool { self != .llama8B }

  /// Weights in matrices.
  public var parameterCount: Int {
    let a = architecture
    let attention =
      2 * (a.attention.heads + a.attention.kvHeads) * a.attention.headSize * a.hiddenSize
    let perLayer = attention + 3 * a.hiddenSize * a.feedForwardSize
    return a.layerCount * perLayer + (isTied ? 1 : 2) * a.vocabularySize * a.hiddenSize
  }

  private func llama(
    layers: Int, hidden: Int, feedForward: Int, _ attention: AttentionShape
  ) -> DecoderArchitecture {
    let layer = LayerPlan(
      rotary: LayerRotary(RotaryEmbedding(base: 500_000, dimensions: attention.headSize)),
      feedForward: FeedForwardPlan(size: feedForward))
    return DecoderArchitecture(
      name: "llama", layers: .init(repeating: layer, count: layers),
      sizes: DecoderArchitecture.Sizes(
        hidden: hidden, vocabulary: 128_256, trainedLength: 131_072, normEpsilon: 1e-5),
      attention: attention, rotaryOrder: .interleaved)
  }
}
