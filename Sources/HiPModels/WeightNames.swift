// SPDX-License-Identifier: Apache-2.0

extension LayerRole {
  /// The weights of a layer with norms before attention and feed-forward block, and no bias.
  static let plain: Set<LayerRole> = [
    .attentionNorm, .query, .key, .value, .attentionOutput, .feedForwardNorm, .gate, .up, .down,
  ]

  /// What GGUF files call it.
  fileprivate var gguf: WeightPlace {
    switch self {
    case .attentionNorm: "blk.#.attn_norm.weight"
    case .query: "blk.#.attn_q.weight"
    case .key: "blk.#.attn_k.weight"
    case .value: "blk.#.attn_v.weight"
    case .attentionOutput: "blk.#.attn_output.weight"
    case .queryBias: "blk.#.attn_q.bias"
    case .keyBias: "blk.#.attn_k.bias"
    case .valueBias: "blk.#.attn_v.bias"
    case .attentionOutputBias: "blk.#.attn_output.bias"
    case .queryNorm: "blk.#.attn_q_norm.weight"
    case .keyNorm: "blk.#.attn_k_norm.weight"
    case .attentionSinks: "blk.#.attn_sinks.weight"
    case .attentionPostNorm: "blk.#.post_attention_norm.weight"
    case .feedForwardPostNorm: "blk.#.post_ffw_norm.weight"
    case .feedForwardNorm: "blk.#.ffn_norm.weight"
    case .router: "blk.#.ffn_gate_inp.weight"
    case .routerBias: "blk.#.ffn_gate_inp.bias"
    case .gate: "blk.#.ffn_gate.weight"
    case .up: "blk.#.ffn_up.weight"
    case .down: "blk.#.ffn_down.weight"
    case .gateBias: "blk.#.ffn_gate.bias"
    case .upBias: "blk.#.ffn_up.bias"
    case .downBias: "blk.#.ffn_down.bias"
    }
  }

  /// What Hugging Face folders call it.
  fileprivate var folder: WeightPlace {
    switch self {
    case .attentionNorm: "model.layers.#.input_layernorm.weight"
    case .query: "model.layers.#.self_attn.q_proj.weight"
    case .key: "model.layers.#.self_attn.k_proj.weight"
    case .value: "model.layers.#.self_attn.v_proj.weight"
    case .attentionOutput: "model.layers.#.self_attn.o_proj.weight"
    case .queryBias: "model.layers.#.self_attn.q_proj.bias"
    case .keyBias: "model.layers.#.self_attn.k_proj.bias"
    case .valueBias: "model.layers.#.self_attn.v_proj.bias"
    case .attentionOutputBias: "model.layers.#.self_attn.o_proj.bias"
    case .queryNorm: "model.layers.#.self_attn.q_norm.weight"
    case .keyNorm: "model.layers.#.self_attn.k_norm.weight"
    case .attentionSinks: "model.layers.#.self_attn.sinks"
    case .attentionPostNorm: "model.layers.#.post_attention_layernorm.weight"
    case .feedForwardPostNorm: "model.layers.#.post_feedforward_layernorm.weight"
    case .feedForwardNorm: "model.layers.#.post_attention_layernorm.weight"
    case .router: "model.layers.#.mlp.gate.weight"
    case .routerBias: "model.layers.#.mlp.gate.bias"
    case .gate: "model.layers.#.mlp.gate_proj.weight"
    case .up: "model.layers.#.mlp.up_proj.weight"
    case .down: "model.layers.#.mlp.down_proj.weight"
    case .gateBias: "model.layers.#.mlp.gate_proj.bias"
    case .upBias: "model.layers.#.mlp.up_proj.bias"
    case .downBias: "model.layers.#.mlp.down_proj.bias"
    }
  }

  fileprivate var isBias: Bool {
    switch self {
    case .queryBias, .keyBias, .valueBias, .attentionOutputBias, .routerBias, .gateBias, .upBias,
      .downBias:
      true
    default: false
    }
  }
}

extension WeightMap {
  /// The usual names of a form for the roles of a family; biases may be absent.
  init(_ form: ModelFields.Form, _ roles: Set<LayerRole>) {
    layer = Dictionary(
      uniqueKeysWithValues: roles.map { role in
        let place = form == .gguf ? role.gguf : role.folder
        return (role, role.isBias ? place.optional : place)
      })
    switch form {
    case .gguf:
      model = [
        .embedding: "token_embd.weight", .outputNorm: "output_norm.weight",
        .output: "output.weight",
      ]
      // Read with the metadata.
      ignorable = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"]
    case .folder:
      // What follows both the attention and the feed-forward block pushes the name of the norm before this one.
      if roles.contains(.attentionPostNorm), roles.contains(.feedForwardNorm) {
        layer[.feedForwardNorm] = "model.layers.#.pre_feedforward_layernorm.weight"
      }
      model = [
        .embedding: "model.embed_tokens.weight", .outputNorm: "model.norm.weight",
        .output: "lm_head.weight",
      ]
      ignorable = ["model.layers.#.self_attn.rotary_emb.inv_freq"]
    }
  }

  /// The names that the `llama` architecture has in GGUF files.
  public static let llama = WeightMap(.gguf, ModelFields.llamaRoles)
}
