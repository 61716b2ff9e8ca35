// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
public import HiPModelFiles
public import HiPTensors

extension DecoderArchitecture {
  /// Reads the architecture out of a GGUF file.
  public init(_ file: GGUFFile) throws(FileError) {
    guard let name = try file.metadata.text("general.architecture") else {
      throw FileError(
        path: file.path, problem: "the metadata lack \"general.architecture\"; is this a model?")
    }
    guard name == "llama" else {
      throw FileError(
        path: file.path,
        problem: "the architecture \"\(name)\" is not supported; supported is \"llama\"")
    }
    try self.init(llama: file)
  }

  /// Llama and its relatives: RMSNorm, SwiGLU, grouped queries, rotary embedding.
  private init(llama file: GGUFFile) throws(FileError) {
    let metadata = file.metadata
    func integer(_ key: String, _ range: ClosedRange<Int>, default fallback: Int? = nil)
      throws(FileError) -> Int
    {
      try metadata.integer("llama.\(key)", in: range, default: fallback)
    }
    func refuse(_ problem: String, _ code: FileError.Code = .unsupported) -> FileError {
      FileError(code, path: file.path, problem: problem)
    }
    let layerCount = try integer("block_count", 1...1024)
    let hidden = try integer("embedding_length", 16...1 << 20)
    let feedForward = try integer("feed_forward_length", 16...1 << 24)
    let heads = try integer("attention.head_count", 1...4096)
    let kvHeads = try integer("attention.head_count_kv", 1...4096, default: heads)
    guard heads % kvHeads == 0 else {
      throw refuse(
        "\(heads) query heads cannot be shared out over \(kvHeads) key-value heads", .invalid)
    }
    let headSize = try integer("attention.key_length", 1...1024, default: hidden / heads)
    let valueSize = try integer("attention.value_length", 1...1024, default: headSize)
    guard headSize >= 16, headSize % 16 == 0, headSize <= 256, valueSize == headSize else {
      throw refuse(
        "heads of \(headSize) (keys) and \(valueSize) (values) elements are not supported; both "
          + "must be the same multiple of 16, at most 256")
    }
    guard hidden % 16 == 0, feedForward % 16 == 0 else {
      throw refuse("the hidden sizes \(hidden) and \(feedForward) are no multiples of 16")
    }
    guard layerCount * kvHeads * headSize <= 1 << 24 else {
      throw refuse("\(layerCount) layers of \(kvHeads) key-value heads are more than is possible")
    }
    let epsilon = Float(try metadata.number("llama.attention.layer_norm_rms_epsilon"))
    guard epsilon >= 0, epsilon < 1 else {
      throw refuse("\"llama.attention.layer_norm_rms_epsilon\" is \(epsilon)", .invalid)
    }
    guard try integer("expert_count", 0...4096, default: 0) == 0 else {
      throw refuse("mixtures of experts are not supported")
    }
    let vocabulary: Int
    if let tokens = try metadata.texts("tokenizer.ggml.tokens") {
      vocabulary = tokens.count
    } else {
      vocabulary = try integer("vocab_size", 1...1 << 24)
    }
    guard vocabulary > 0 else { throw refuse("the vocabulary is empty", .invalid) }
    let rotary = try Self.rotary(file, headSize: headSize)
    self.init(
      name: "llama", layers: .init(repeating: LayerPlan(rotary: rotary), count: layerCount),
      sizes: Sizes(
        hidden: hidden, feedForward: feedForward, vocabulary: vocabulary,
        trainedLength: try integer("context_length", 1...1 << 32)),
      attention: AttentionShape(heads: heads, kvHeads: kvHeads, headSize: headSize),
      normEpsilon: epsilon, rotaryOrder: .interleaved)
  }

  private static func rotary(_ file: GGUFFile, headSize: Int) throws(FileError) -> RotaryEmbedding {
    let metadata = file.metadata
    let dimensions = try metadata.integer(
      "llama.rope.dimension_count", in: 2...headSize, default: headSize)
    let base = try metadata.number("llama.rope.freq_base", default: 10_000)
    guard dimensions % 2 == 0, base > 1 else {
      throw FileError(
        path: file.path,
        problem: "rotary embedding of \(dimensions) dimensions with base \(base) is not possible")
    }
    let scaling = try metadata.text("llama.rope.scaling.type") ?? "none"
    guard scaling == "none" || scaling == "linear" else {
      throw FileError(
        path: file.path,
        problem: "\"llama.rope.scaling.type\" is \"\(scaling)\"; supported are \"none\" and "
          + "\"linear\"")
    }
    let scale =
      scaling == "linear" ? try metadata.number("llama.rope.scaling.factor", default: 1) : 1
    guard scale >= 1 else {
      throw FileError(
        path: file.path, problem: "\"llama.rope.scaling.factor\" is \(scale), below 1")
    }
    var factors: [Float] = []
    if file.hasWeight(named: "rope_freqs.weight") {
      let weight = try file.weight(named: "rope_freqs.weight", rows: 1, columns: dimensions / 2)
      guard weight.element == .float32 else {
        throw FileError(path: file.path, problem: "the tensor \"rope_freqs.weight\" is not F32")
      }
      factors = (0..<dimensions / 2).map { index in
        unsafe weight.bytes.file.bytes.loadUnaligned(
          fromByteOffset: weight.bytes.range.lowerBound + 4 * index, as: Float.self)
      }
      guard factors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
        throw FileError(
          path: file.path, problem: "the tensor \"rope_freqs.weight\" holds no positive factors")
      }
    }
    return RotaryEmbedding(base: base, dimensions: dimensions, scale: scale, factors: factors)
  }
}

extension WeightMap {
  /// The names that the `llama` architecture has in GGUF files.
  public static let llama = WeightMap(
    layer: [
      .attentionNorm: "blk.#.attn_norm.weight", .query: "blk.#.attn_q.weight",
      .key: "blk.#.attn_k.weight", .value: "blk.#.attn_v.weight",
      .attentionOutput: "blk.#.attn_output.weight", .queryBias: "blk.#.attn_q.bias",
      .keyBias: "blk.#.attn_k.bias", .valueBias: "blk.#.attn_v.bias",
      .attentionOutputBias: "blk.#.attn_output.bias", .feedForwardNorm: "blk.#.ffn_norm.weight",
      .gate: "blk.#.ffn_gate.weight", .up: "blk.#.ffn_up.weight", .down: "blk.#.ffn_down.weight",
    ],
    model: [
      .embedding: "token_embd.weight", .outputNorm: "output_norm.weight",
      .output: "output.weight", .rotaryFactors: "rope_freqs.weight",
    ],
    ignorable: [])
}
