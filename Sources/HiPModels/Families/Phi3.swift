// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

extension ModelFields {
  /// Phi-3, 3.5, 4 and 4-mini: projections in one matrix, rotation of a part of each head, LongRoPE.
  func phi3() throws(FileError) -> ModelPlan {
    try checkActivation("silu")
    let plan = try uniformPlan(LayerRole.plain, slides: { _ in true })
    let shape = plan.architecture.attention
    let (queries, keys) = (shape.heads * shape.headSize, shape.kvHeads * shape.headSize)
    let size = plan.architecture.feedForwardSize
    let attention: WeightPlace =
      form == .gguf ? "blk.#.attn_qkv.weight" : "model.layers.#.self_attn.qkv_proj.weight"
    let gateAndUp: WeightPlace =
      form == .gguf ? "blk.#.ffn_up.weight" : "model.layers.#.mlp.gate_up_proj.weight"
    var map = plan.weightMap
    let rows = queries + 2 * keys
    map.layer[.query] = attention.rows(0..<queries, of: rows)
    map.layer[.key] = attention.rows(queries..<queries + keys, of: rows)
    map.layer[.value] = attention.rows(queries + keys..<rows, of: rows)
    map.layer[.gate] = gateAndUp.rows(0..<size, of: 2 * size)
    map.layer[.up] = gateAndUp.rows(size..<2 * size, of: 2 * size)
    return ModelPlan(plan.architecture, map, from: weights)
  }
}
