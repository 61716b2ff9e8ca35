// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

extension ModelFields {
  static let llamaRoles = LayerRole.plain.union([
    .queryBias, .keyBias, .valueBias, .attentionOutputBias, .gateBias, .upBias, .downBias,
  ])

  /// Llama and its relatives, Mistral and Ministral among them: RMSNorm, SwiGLU, grouped queries, rotary embedding.
  ///
  /// GGUF files hold queries and keys with neighbours as pairs, and say nothing of Mistral's window.
  func llama() throws(FileError) -> ModelPlan {
    try checkActivation("silu")
    return try uniformPlan(
      Self.llamaRoles, order: form == .gguf ? .interleaved : .halves,
      slides: { _ in family == .mistral }, hasWindow: family == .mistral)
  }
}
