// SPDX-License-Identifier: Apache-2.0

internal import HiPJSON
internal import HiPTokenization
internal import InfiniteHiP

/// The options of Ollama's API: what a model's store says, and over it what a request says.
struct OllamaOptions: Sendable {
  private var values: [String: JSONValue] = [:]
  /// Options that nobody knows: they are logged, and the request goes on.
  private(set) var unknown: [String] = []

  private enum Kind: String { case integer, float32, boolean, array, ignored }

  private static let kinds: [String: Kind] = [
    "num_ctx": .integer, "num_batch": .integer, "num_gpu": .integer, "main_gpu": .integer,
    "num_thread": .integer, "draft_num_predict": .integer, "num_keep": .integer, "seed": .integer,
    "num_predict": .integer, "top_k": .integer, "repeat_last_n": .integer, "top_p": .float32,
    "min_p": .float32, "typical_p": .float32, "temperature": .float32, "repeat_penalty": .float32,
    "presence_penalty": .float32, "frequency_penalty": .float32, "use_mmap": .boolean,
    "stop": .array, "penalize_newline": .ignored, "numa": .ignored, "mirostat": .ignored,
    "mirostat_tau": .ignored, "mirostat_eta": .ignored, "tfs_z": .ignored, "low_vram": .ignored,
    "f16_kv": .ignored, "vocab_only": .ignored, "use_mlock": .ignored, "logits_all": .ignored,
    "attention": .ignored, "budget": .ignored,
  ]

  init(_ layers: JSONValue?...) throws(ServerError) {
    for layer in layers {
      for member in layer?.members ?? [] where member.value != .null {
        try add(member.key, member.value)
      }
    }
  }

  private mutating func add(_ key: String, _ value: JSONValue) throws(ServerError) {
    guard let kind = Self.kinds[key] else {
      unknown.append(key)
      return
    }
    let fits =
      switch kind {
      case .integer, .float32: value.number != nil
      case .boolean: value.flag != nil
      case .array: value.items != nil || value.text != nil
      case .ignored: true
      }
    guard fits else {
      throw .badRequest(
        "option \"\(key)\" must be of type \(kind.rawValue)", parameter: "options.\(key)")
    }
    if kind == .array {
      let texts = value.text.map { [$0] } ?? value.items?.compactMap(\.text) ?? []
      guard value.text != nil || texts.count == value.items?.count else {
        throw .badRequest("option \"\(key)\" must be of an array of strings")
      }
    }
    values[key] = value
  }

  /// A whole number, its fraction dropped.
  private func integer(_ key: String) -> Int? {
    values[key]?.number.map { $0.isFinite ? Int(max(-1e15, min(1e15, $0))) : 0 }
  }

  /// The most tokens of prompt and answer, if that is said.
  var contextLimit: Int? { integer("num_ctx").flatMap { $0 > 0 ? $0 : nil } }

  /// The most tokens of an answer.
  var maximumTokens: Int {
    guard let count = integer("num_predict"), count >= 0 else { return Self.usual }
    return min(count, Self.most)
  }

  /// The most tokens of an answer that nobody has limited: some models never end.
  static let usual = 16_384
  /// The most tokens of any answer.
  static let most = 1 << 20

  var stop: [String] {
    values["stop"].map { $0.text.map { [$0] } ?? $0.items?.compactMap(\.text) ?? [] } ?? []
  }

  /// How tokens are chosen.
  var sampling: SamplingOptions {
    func number(_ key: String, _ fallback: Double) -> Double { values[key]?.number ?? fallback }
    var options = SamplingOptions(
      temperature: max(0, number("temperature", 0.8)), topK: max(0, integer("top_k") ?? 40),
      topP: min(1, max(1e-6, number("top_p", 0.9))), minP: min(1, max(0, number("min_p", 0))),
      seed: integer("seed").flatMap { $0 < 0 ? nil : UInt64($0) } ?? .random(in: 0...UInt64.max))
    options.repeatPenalty = number("repeat_penalty", 1)
    let window = integer("repeat_last_n") ?? 64
    options.repeatWindow = window < 0 ? Int(Int32.max) : window
    options.presencePenalty = number("presence_penalty", 0)
    options.frequencyPenalty = number("frequency_penalty", 0)
    return options
  }
}
