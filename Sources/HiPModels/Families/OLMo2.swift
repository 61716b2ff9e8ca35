// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

extension ModelFields {
  /// OLMo 2 (arXiv 2501.00656): norms follow attention and feed-forward block, and queries and keys are normalised
  /// over all heads together.
  func olmo2() throws(FileError) -> ModelPlan {
    try checkActivation("silu")
    let plan = try uniformPlan(
      LayerRole.plain.subtracting([.attentionNorm, .feedForwardNorm]).union([
        .queryNorm, .keyNorm, .attentionPostNorm, .feedForwardPostNorm,
      ]), hasWindow: false)
    var map = plan.weightMap
    map.normalisesHeadsTogether = true
    return ModelPlan(plan.architecture, map, from: weights)
  }
}
