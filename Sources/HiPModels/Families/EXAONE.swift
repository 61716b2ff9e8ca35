// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

extension ModelFields {
  /// EXAONE 3 and 3.5: a Llama under other names.
  func exaone() throws(FileError) -> ModelPlan {
    guard form == .gguf else {
      throw refuse("EXAONE 3 can be read from GGUF files only; give one of those")
    }
    return try uniformPlan(LayerRole.plain, hasWindow: false)
  }

  /// EXAONE 4: norms follow attention and feed-forward block, each head's query and key are normalised, and where
  /// some layers slide, those that do not are not rotated.
  func exaone4() throws(FileError) -> ModelPlan {
    try checkActivation("silu")
    let sliding = try slidingWindow { ($0 + 1) % 4 != 0 }
    return try uniformPlan(
      LayerRole.plain.subtracting([.attentionNorm, .feedForwardNorm]).union([
        .queryNorm, .keyNorm, .attentionPostNorm, .feedForwardPostNorm,
      ]), slides: { ($0 + 1) % 4 != 0 }, rotates: { sliding?.layers[$0] ?? true })
  }
}
