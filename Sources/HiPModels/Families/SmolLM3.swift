// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

extension ModelFields {
  /// SmolLM3: every fourth layer is not rotated.
  func smolLM3() throws(FileError) -> ModelPlan {
    try checkActivation("silu")
    if try flag(Key(folder: "use_sliding_window"), default: false) {
      throw refuse("\"use_sliding_window\" is true, which no published model of this kind has")
    }
    let interval = try integer(Key(folder: "no_rope_layer_interval"), in: 1...1024, default: 4)
    var rotates = (0..<layerCount).map { ($0 + 1) % interval != 0 }
    if form == .folder, let flags = try metadata.integers(prefix + "no_rope_layers") {
      guard flags.count == layerCount else {
        throw refuse(
          "\"no_rope_layers\" has \(flags.count) entries for \(layerCount) layers", .invalid)
      }
      // 0 stands for no rotation, in spite of the name.
      rotates = flags.map { $0 != 0 }
    }
    return try uniformPlan(
      LayerRole.plain.union([.queryBias, .keyBias, .valueBias, .attentionOutputBias]),
      order: form == .gguf ? .interleaved : .halves, hasWindow: false, rotates: { rotates[$0] })
  }
}
