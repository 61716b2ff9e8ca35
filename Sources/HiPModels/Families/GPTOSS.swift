// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

extension ModelFields {
  /// gpt-oss (arXiv 2508.10925): experts, a sink in each head's softmax, biases everywhere, every other layer slides.
  func gptOSS() throws(FileError) -> ModelPlan {
    let (experts, size) = try experts(
      count: Key(gguf: "expert_count", folder: "num_local_experts"),
      size: Key(gguf: "expert_feed_forward_length", folder: "intermediate_size"),
      isRenormalised: true)
    if let limit = try positive(Key(folder: "swiglu_limit")), limit != 7 {
      throw refuse("\"swiglu_limit\" is \(limit); supported is 7")
    }
    let plan = try uniformPlan(
      LayerRole.plain.union([
        .attentionSinks, .queryBias, .keyBias, .valueBias, .attentionOutputBias, .router,
        .routerBias,
        .gateBias, .upBias, .downBias,
      ]), activation: .clampedSwiGLU,
      experts: experts,
      feedForward: size, slides: { $0 % 2 == 0 })
    var map = plan.weightMap
    switch form {
    case .gguf:
      map.layer[.feedForwardNorm] = "blk.#.post_attention_norm.weight"
      for (role, name) in [(LayerRole.gate, "gate"), (.up, "up"), (.down, "down")] {
        map.layer[role] = WeightPlace("blk.#.ffn_\(name)_exps.weight").shared
      }
      for (role, name) in [(LayerRole.gateBias, "gate"), (.upBias, "up"), (.downBias, "down")] {
        map.layer[role] = WeightPlace("blk.#.ffn_\(name)_exps.bias").shared
      }
    case .folder:
      map.layer[.router] = "model.layers.#.mlp.router.weight"
      map.layer[.routerBias] = "model.layers.#.mlp.router.bias"
      // As `InterleavedExperts` brings them.
      for (role, name) in [(LayerRole.gate, "gate"), (.up, "up"), (.down, "down")] {
        map.layer[role] = WeightPlace("model.layers.#.mlp.experts.\(name)_proj.weight").shared
      }
      for (role, name) in [(LayerRole.gateBias, "gate"), (.upBias, "up"), (.downBias, "down")] {
        map.layer[role] = WeightPlace("model.layers.#.mlp.experts.\(name)_proj.bias").shared
      }
    }
    return ModelPlan(plan.architecture, map, from: weights)
  }
}
