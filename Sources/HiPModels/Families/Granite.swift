// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

extension ModelFields {
  /// Granite 3: a Llama with multipliers of embedding, scores, residuals and logits.
  func granite() throws(FileError) -> ModelPlan {
    try checkActivation("silu")
    var scales = DecoderArchitecture.Scales()
    func scale(_ gguf: String, _ folder: String) throws(FileError) -> Float {
      Float(try positive(Key(gguf: gguf, folder: folder)) ?? 1)
    }
    scales.embedding = try scale("embedding_scale", "embedding_multiplier")
    scales.residual = try scale("residual_scale", "residual_multiplier")
    // Both forms hold what logits are divided by.
    scales.logits = 1 / (try scale("logit_scale", "logits_scaling"))
    let attention = try positive(Key(gguf: "attention.scale", folder: "attention_multiplier"))
    return try uniformPlan(
      LayerRole.plain, order: form == .gguf ? .interleaved : .halves, hasWindow: false,
      scores: (attention, nil), scales: scales)
  }
}
