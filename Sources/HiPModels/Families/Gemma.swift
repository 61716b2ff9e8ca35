// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

extension ModelFields {
  private static let gemmaRoles = LayerRole.plain.union([.attentionPostNorm, .feedForwardPostNorm])

  /// Gemma 2 (arXiv 2408.00118): every other layer slides; scores and logits are capped softly.
  func gemma2() throws(FileError) -> ModelPlan {
    // Older files do not say what all models of this kind have.
    let (softCap, scales) = try softCaps(scores: 50, logits: 30)
    let common = try common()
    let (rotary, stretched) = try rotary(common)
    return try gemma(
      Self.gemmaRoles, common, global: rotary, local: rotary, stretched,
      scores: (try queryScale(common, largest: 46), softCap), scales, window: 4096
    ) { $0 % 2 == 0 }
  }

  /// The soft caps of scores and logits, and what they are where a file does not say so.
  private func softCaps(
    scores: Double?, logits: Double?
  ) throws(FileError) -> (scores: Double?, scales: DecoderArchitecture.Scales) {
    func cap(_ name: String, _ fallback: Double?) throws(FileError) -> Double? {
      let key = Key(gguf: name, folder: name)
      return try positive(key) ?? (isNull(key) ? nil : fallback)
    }
    var scales = DecoderArchitecture.Scales()
    scales.logitSoftCap = try cap("final_logit_softcapping", logits).map { Float($0) }
    return (try cap("attn_logit_softcapping", scores), scales)
  }

  /// Gemma 3 (arXiv 2503.19786): five layers slide, with a rotation of their own, and the sixth does not.
  func gemma3() throws(FileError) -> ModelPlan {
    // What the larger models' folders leave unsaid.
    let common = try common(
      prefix.isEmpty
        ? [:]
        : [
          "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
          "max_position_embeddings": 131_072, "vocab_size": 262_208,
        ])
    let (softCap, scales) = try softCaps(scores: nil, logits: nil)
    let dimensions = try rotaryDimensions(headSize: common.headSize)
    let base = try rotaryBase(
      Key(gguf: "rope.freq_base", folder: "rope_theta"), layers: "full_attention", default: 1e6)
    let localBase = try rotaryBase(
      Key(gguf: "rope.freq_base_swa", folder: "rope_local_base_freq"), layers: "sliding_attention",
      default: 1e4)
    let scaling = try rotaryScaling(
      dimensions: dimensions, contextLength: common.contextLength, layers: "full_attention")
    return try gemma(
      Self.gemmaRoles.union([.queryNorm, .keyNorm]), common,
      global: scaling.rotary(base: base, dimensions: dimensions),
      local: LayerRotary(RotaryEmbedding(base: localBase, dimensions: dimensions)),
      scaling.stretchedLength, scores: (try queryScale(common, largest: 62), softCap), scales,
      window: nil
    ) { ($0 + 1) % 6 != 0 }
  }

  /// What scores are multiplied by; GGUF files do not say it, but the largest model of each generation differs.
  private func queryScale(_ common: CommonFields, largest: Int) throws(FileError) -> Double? {
    let size =
      try positive(Key(folder: "query_pre_attn_scalar"))
      ?? Double(
        form == .gguf && layerCount == largest ? common.hidden / common.heads : common.headSize)
    return 1 / size.squareRoot()
  }

  private func gemma(
    _ roles: Set<LayerRole>, _ common: CommonFields, global: LayerRotary, local: LayerRotary,
    _ stretched: Int?, scores: (scale: Double?, softCap: Double?),
    _ scales: DecoderArchitecture.Scales, window: Int?, slides: (Int) -> Bool
  ) throws(FileError) -> ModelPlan {
    try checkActivation("gelu_pytorch_tanh", "gelu")
    if try flag(Key(folder: "use_bidirectional_attention"), default: false) {
      throw refuse("\"use_bidirectional_attention\" is true: this is no model that writes text")
    }
    let sliding = try slidingWindow(default: window, slides)
    let block = FeedForwardPlan(size: common.feedForward, activation: .geluTanh)
    let layers = (0..<layerCount).map { index in
      sliding.flatMap {
        $0.layers[index]
          ? LayerPlan(reach: .sliding(window: $0.window), rotary: local, feedForward: block) : nil
      } ?? LayerPlan(rotary: global, feedForward: block)
    }
    var map = WeightMap(form, roles)
    // Folders hold what the weights of norms differ by from 1.
    if form == .folder {
      map.normOffset = 1
      map.ignorable.formUnion([
        "vision_tower.*", "multi_modal_projector.*", "model.vision_tower.*",
        "model.multi_modal_projector.*",
      ])
    }
    var scales = scales
    scales.embedding = Float(common.hidden).squareRoot()
    return try plan(
      common, layers: layers, map, scores: scores, scales: scales, stretchedLength: stretched)
  }
}
