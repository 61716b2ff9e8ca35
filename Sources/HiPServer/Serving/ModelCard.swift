// SPDX-License-Identifier: Apache-2.0

internal import HiPJSON
internal import HiPModelFiles
internal import HiPModelStore
internal import HiPModels
internal import HiPTensors

/// What is told of a model without loading it.
struct ModelCard: Sendable {
  let family: String
  let parameterCount: Int
  let quantisation: String
  let contextLength: Int
  let embeddingLength: Int
  let format: String
  let hasTemplate: Bool
  let template: String
  let capabilities: [String]
  let metadata: Metadata
  let tensors: [ModelFile.TensorSummary]

  init(_ stored: StoredModel) throws {
    try stored.checkLayers()
    guard let path = stored.path else {
      throw FileError(
        .unsupported, path: "\(stored.name)", problem: "its manifest names no GGUF file")
    }
    let file = try ModelFile(path: path)
    let plan = try? ModelPlan(file)
    switch file {
    case .gguf(let gguf):
      metadata = gguf.metadata
      format = "gguf"
    case .folder(let folder):
      metadata = folder.config
      format = "safetensors"
    }
    family = plan?.architecture.name ?? metadata.word("general.architecture") ?? "unknown"
    contextLength = plan?.architecture.trainedLength ?? 0
    embeddingLength = plan?.architecture.hiddenSize ?? 0
    tensors = file.tensors
    parameterCount = tensors.reduce(0) { sum, tensor in
      let size = tensor.shape.reduce((1, false)) { product, size in
        let (total, overflow) = product.0.multipliedReportingOverflow(by: size)
        return (total, product.1 || overflow)
      }
      let (total, overflow) = sum.addingReportingOverflow(size.1 ? .max : size.0)
      return overflow ? .max : total
    }
    quantisation = Self.quantisation(of: file)
    template = stored.template ?? Self.template(of: file) ?? ""
    hasTemplate = !template.isEmpty
    capabilities = Self.capabilities(of: template)
  }

  /// Members of a model's `details`.
  var details: JSONValue {
    [
      "parent_model": "", "format": .text(format), "family": .text(family),
      "families": [.text(family)], "parameter_size": .text(Self.size(parameterCount)),
      "quantization_level": .text(quantisation), "context_length": .integer(contextLength),
      "embedding_length": .integer(embeddingLength),
    ]
  }

  private static func template(of file: ModelFile) -> String? {
    switch file {
    case .gguf(let gguf): gguf.metadata.word("tokenizer.chat_template")
    case .folder(let folder):
      (try? folder.bytes("chat_template.jinja")).flatMap { $0 }
        .map { String(decoding: $0, as: UTF8.self) }
        ?? (try? folder.json("tokenizer_config.json"))?["chat_template"]?.text
    }
  }

  private static func capabilities(of template: String) -> [String] {
    var found = ["completion", "embedding"]
    if template.contains("tools") || template.contains(".Tools") { found.append("tools") }
    if template.contains(".Suffix") { found.append("insert") }
    if template.contains("enable_thinking") || template.contains(".Think")
      || template.contains("<think>")
    {
      found.append("thinking")
    }
    return found
  }

  /// The element type that holds most of the weights.
  private static func quantisation(of file: ModelFile) -> String {
    if case .gguf(let gguf) = file,
      case .integer(let number)? = gguf.metadata.values["general.file_type"],
      let name = fileTypes[Int(clamping: number)]
    {
      return name
    }
    var counts: [String: Int] = [:]
    for tensor in file.tensors where tensor.shape.count >= 2 {
      counts[tensor.type, default: 0] += tensor.shape.reduce(1) { $0 &* $1 }
    }
    return counts.max { $0.value < $1.value }?.key.uppercased() ?? "unknown"
  }

  /// Names of `general.file_type`, as llama.cpp numbers them.
  private static let fileTypes: [Int: String] = [
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
  ]

  /// A count as people write it: 28.3M, 3.2B.
  static func size(_ count: Int) -> String {
    func tenths(_ unit: Int) -> String {
      let value = (Double(count) / Double(unit) * 10).rounded() / 10
      return value == value.rounded() && value >= 100 ? "\(Int(value))" : "\(value)"
    }
    return switch count {
    case ..<1_000: "\(count)"
    case ..<1_000_000: tenths(1_000) + "K"
    case ..<1_000_000_000: tenths(1_000_000) + "M"
    default: tenths(1_000_000_000) + "B"
    }
  }
}

extension Metadata {
  func word(_ key: String) -> String? {
    if case .text(let text)? = values[key] { text } else { nil }
  }
}
