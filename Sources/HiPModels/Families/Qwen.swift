// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

extension ModelFields {
  /// Qwen2 and 2.5, and DeepSeek-R1's distillations of them: biases on queries, keys and values.
  func qwen2() throws(FileError) -> ModelPlan {
    try qwen(LayerRole.plain.union([.queryBias, .keyBias, .valueBias]))
  }

  /// Qwen3: each head's query and key normalised.
  func qwen3() throws(FileError) -> ModelPlan {
    try qwen(
      LayerRole.plain.union([
        .queryNorm, .keyNorm, .queryBias, .keyBias, .valueBias, .attentionOutputBias,
      ]))
  }

  /// Qwen3 with a mixture of experts in place of each feed-forward block.
  func qwen3MoE() throws(FileError) -> ModelPlan {
    if let step = try integer(Key(folder: "decoder_sparse_step"), in: 0...1 << 20), step != 1 {
      throw refuse("\"decoder_sparse_step\" is \(step); supported is 1, experts in every layer")
    }
    if let dense = try metadata.integers("mlp_only_layers"), !dense.isEmpty {
      throw refuse("\"mlp_only_layers\" names layers without experts, which is not supported")
    }
    // Called so by transformers 5.
    let name = has(Key(folder: "num_local_experts")) ? "num_local_experts" : "num_experts"
    let (experts, size) = try experts(
      count: Key(gguf: "expert_count", folder: name),
      size: Key(gguf: "expert_feed_forward_length", folder: "moe_intermediate_size"),
      isRenormalised: flag(Key(folder: "norm_topk_prob"), default: form == .gguf))
    return try qwen(
      LayerRole.plain.union([.queryNorm, .keyNorm, .router]),
      experts: experts,
      feedForward: size
    ) { map in
      switch form {
      case .gguf:
        map.layer[.gate] = WeightPlace("blk.#.ffn_gate_exps.weight").shared
        map.layer[.up] = WeightPlace("blk.#.ffn_up_exps.weight").shared
        map.layer[.down] = WeightPlace("blk.#.ffn_down_exps.weight").shared
      case .folder:
        map.layer[.gate] = "model.layers.#.mlp.experts.@.gate_proj.weight"
        map.layer[.up] = "model.layers.#.mlp.experts.@.up_proj.weight"
        map.layer[.down] = "model.layers.#.mlp.experts.@.down_proj.weight"
      }
    }
  }

  private func qwen(
    _ roles: Set<LayerRole>, experts: FeedForwardPlan.Experts? = nil, feedForward: Int? = nil,
    _ rename: (inout WeightMap) -> Void = { _ in }
  ) throws(FileError) -> ModelPlan {
    try checkActivation("silu")
    // The window's length stands in every file; whether it counts is said apart.
    let hasWindow = try flag(Key(folder: "use_sliding_window"), default: false)
    let first = try integer(
      Key(folder: "max_window_layers"), in: 0...1 << 20, default: layerCount)
    let plan = try uniformPlan(
      roles, experts: experts, feedForward: feedForward, slides: { $0 >= first },
      hasWindow: hasWindow)
    var map = plan.weightMap
    rename(&map)
    return ModelPlan(plan.architecture, map, from: weights)
  }
}
