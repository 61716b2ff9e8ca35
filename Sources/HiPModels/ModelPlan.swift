// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
public import HiPModelFiles
public import HiPTensors

/// What a model computes, and where its weights lie: all that tells its family from others.
public struct ModelPlan: Sendable {
  /// What it computes.
  public let architecture: DecoderArchitecture
  /// Where its weights lie.
  public let weightMap: WeightMap
  /// The weights as the map names them.
  public let weights: any WeightSource

  /// Stores the parts.
  public init(
    _ architecture: DecoderArchitecture, _ weightMap: WeightMap, from weights: any WeightSource
  ) {
    self.architecture = architecture
    self.weightMap = weightMap
    self.weights = weights
  }

  /// Plans the model of a GGUF file.
  public init(_ file: GGUFFile) throws(FileError) {
    guard let name = try file.metadata.text("general.architecture") else {
      throw FileError(
        path: file.path, problem: "the metadata lack \"general.architecture\"; is this a model?")
    }
    guard let family = ModelFamily.allCases.first(where: { $0.ggufName == name }) else {
      let known = Set(ModelFamily.allCases.compactMap(\.ggufName)).sorted().joined(separator: ", ")
      throw FileError(
        .unsupported, path: file.path,
        problem: "the architecture \"\(name)\" is not supported; supported are \(known)")
    }
    self = try family.plan(
      ModelFields(.gguf, family, file.metadata, file, prefix: name + "."))
  }

  /// Plans the model of a Hugging Face folder.
  public init(_ folder: HuggingFaceFolder) throws(FileError) {
    // A model that sees as well has its text model's configuration apart.
    let prefix = folder.config.values["text_config.num_hidden_layers"] == nil ? "" : "text_config."
    let key =
      folder.config.values[prefix + "model_type"] == nil ? "model_type" : prefix + "model_type"
    let name = try folder.config.text(key) ?? ""
    guard let family = ModelFamily.allCases.first(where: { $0.modelTypes.contains(name) }) else {
      let known = ModelFamily.allCases.flatMap(\.modelTypes).sorted().joined(separator: ", ")
      throw FileError(
        .unsupported, path: folder.config.path,
        problem: "the \"model_type\" \"\(name)\" is not supported; supported are \(known)")
    }
    let weights: any WeightSource =
      family == .gptOSS ? InterleavedExperts(folder.weights) : folder.weights
    self = try family.plan(ModelFields(.folder, family, folder.config, weights, prefix: prefix))
  }

  /// Plans the model of a file or folder.
  public init(_ file: ModelFile) throws(FileError) {
    switch file {
    case .gguf(let file): try self.init(file)
    case .folder(let folder): try self.init(folder)
    }
  }
}

/// A family of decoders.
public enum ModelFamily: String, Sendable, CaseIterable {
  // The first of those that share a name in GGUF files is what such a file is taken for.
  case llama, mistral
  case qwen2, qwen3
  case qwen3MoE = "qwen3-moe"
  case gemma2, gemma3, phi3, smolLM3 = "smollm3", olmo2, granite, exaone
  case exaone4, gptOSS = "gpt-oss"

  /// The name in `general.architecture`; nil where files say another family's.
  var ggufName: String? {
    switch self {
    case .mistral: nil
    case .qwen3MoE: "qwen3moe"
    default: rawValue
    }
  }

  /// The names in `model_type` of `config.json`.
  var modelTypes: [String] {
    switch self {
    case .mistral: ["mistral", "ministral"]
    case .qwen3MoE: ["qwen3_moe"]
    case .gemma3: ["gemma3_text", "gemma3"]
    case .gptOSS: ["gpt_oss"]
    default: [rawValue]
    }
  }

  func plan(_ fields: ModelFields) throws(FileError) -> ModelPlan {
    switch self {
    case .llama, .mistral: try fields.llama()
    case .qwen2: try fields.qwen2()
    case .qwen3: try fields.qwen3()
    case .qwen3MoE: try fields.qwen3MoE()
    case .gemma2: try fields.gemma2()
    case .gemma3: try fields.gemma3()
    case .phi3: try fields.phi3()
    case .smolLM3: try fields.smolLM3()
    case .olmo2: try fields.olmo2()
    case .granite: try fields.granite()
    case .exaone: try fields.exaone()
    case .exaone4: try fields.exaone4()
    case .gptOSS: try fields.gptOSS()
    }
  }
}

extension ModelFields {
  /// Puts a plan together of what families share and what each says of itself.
  /// - Parameters:
  ///   - layers: what each layer does.
  ///   - map: where the weights lie.
  ///   - order: how projections order the elements of a head.
  ///   - scale: what scores are multiplied by; nil: 1 / sqrt(head size).
  func plan(
    _ common: CommonFields, layers: [LayerPlan], _ map: WeightMap, order: RotaryOrder = .halves,
    scores: (scale: Double?, softCap: Double?) = (nil, nil),
    scales: DecoderArchitecture.Scales = .init(), stretchedLength: Int? = nil
  ) throws(FileError) -> ModelPlan {
    var map = map
    let tied = Key(folder: "tie_word_embeddings")
    if has(tied) { map.isTied = try flag(tied, default: false) }
    return ModelPlan(
      DecoderArchitecture(
        name: family.rawValue, layers: layers,
        sizes: .init(
          hidden: common.hidden, vocabulary: common.vocabulary,
          trainedLength: max(common.contextLength, stretchedLength ?? 0),
          normEpsilon: common.epsilon),
        attention: AttentionShape(
          heads: common.heads, kvHeads: common.kvHeads, headSize: common.headSize,
          scale: scores.scale.map { Float($0) }, softCap: scores.softCap.map { Float($0) }),
        rotaryOrder: order, scales: scales, addsNormed: map.layer[.attentionPostNorm] != nil), map,
      from: weights)
  }

  /// The rotation that all layers share, and the length that it is stretched to.
  func rotary(
    _ common: CommonFields, base fallback: Double = 10_000
  ) throws(FileError) -> (rotary: LayerRotary, stretchedLength: Int?) {
    let dimensions = try rotaryDimensions(headSize: common.headSize)
    let base = try rotaryBase(
      Key(gguf: "rope.freq_base", folder: "rope_theta"), default: fallback)
    let scaling = try rotaryScaling(dimensions: dimensions, contextLength: common.contextLength)
    return (scaling.rotary(base: base, dimensions: dimensions), scaling.stretchedLength)
  }

  /// The plan of a family whose layers are alike, but for sliding windows and what `rotates` says.
  func uniformPlan(
    _ roles: Set<LayerRole>, activation: GateActivation = .silu,
    experts: FeedForwardPlan.Experts? = nil,
    feedForward: Int? = nil, order: RotaryOrder = .halves, slides: (Int) -> Bool = { _ in false },
    hasWindow: Bool = true, rotates: (Int) -> Bool = { _ in true },
    scores: (scale: Double?, softCap: Double?) = (nil, nil),
    scales: DecoderArchitecture.Scales = .init()
  ) throws(FileError) -> ModelPlan {
    let common = try common()
    let (rotary, stretched) = try rotary(common)
    let sliding = hasWindow ? try slidingWindow(slides) : nil
    let block = FeedForwardPlan(
      size: feedForward ?? common.feedForward, activation: activation, experts: experts)
    let layers = (0..<layerCount).map { index in
      LayerPlan(
        reach: sliding.flatMap { $0.layers[index] ? .sliding(window: $0.window) : nil } ?? .full,
        rotary: rotates(index) ? rotary : nil, feedForward: block)
    }
    return try plan(
      common, layers: layers, WeightMap(form, roles), order: order, scores: scores, scales: scales,
      stretchedLength: stretched)
  }
}
