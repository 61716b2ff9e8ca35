// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import InfiniteHiP

/// What a command that answers can be told about model, attention and sampling.
@dynamicMemberLookup
struct EngineOptions: ParsableArguments {
  @OptionGroup var base: ModelOptions
  @OptionGroup(title: "Keys and values") var kv: TierOptions

  subscript<Value>(dynamicMember path: WritableKeyPath<ModelOptions, Value>) -> Value {
    get { base[keyPath: path] }
    set { base[keyPath: path] = newValue }
  }

  subscript<Value>(dynamicMember path: KeyPath<ModelOptions, Value>) -> Value {
    base[keyPath: path]
  }

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Seed of everything random; -1 draws one.", valueName: "n"))
  var seed: Int = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "0 takes the most probable token. (default: the model's, or 0)", valueName: "t"))
  var temperature: Double?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Keep the n most probable tokens; 0 keeps all. (default: the model's, or 40)", valueName: "n")
  )
  var topK: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Keep tokens that together reach p. (default: the model's, or 0.9)", valueName: "p"))
  var topP: Double?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Keep tokens above this share of the best. (default: the model's, or 0)", valueName: "p"))
  var minP: Double?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Penalty on recent tokens; 1 is none. (default: the model's, or 1)", valueName: "r"))
  var repeatPenalty: Double?

  @Option(
    parsing: .unconditional, help: ArgumentHelp("The most tokens of an answer.", valueName: "n"))
  var maxTokens = 512

  mutating func validate() throws {
    guard maxTokens >= 1 else {
      throw ValidationError("--max-tokens is \(maxTokens); give 1 or more")
    }
    if let temperature, !(temperature >= 0 && temperature.isFinite) {
      throw ValidationError("--temperature is \(temperature); give 0 or more")
    }
    if let topK, topK < 0 { throw ValidationError("--top-k is \(topK); give 0 or more") }
    if let topP, !(topP > 0 && topP <= 1) {
      throw ValidationError("--top-p is \(topP); give a value above 0, at most 1")
    }
    if let minP, !(minP >= 0 && minP <= 1) {
      throw ValidationError("--min-p is \(minP); give a value from 0 to 1")
    }
    if let repeatPenalty, !(0.01...100).contains(repeatPenalty) {
      throw ValidationError("--repeat-penalty is \(repeatPenalty); give a value from 0.01 to 100")
    }
  }

  /// The seed, or one that is drawn.
  var generatorSeed: UInt64 { seed < 0 ? UInt64.random(in: 0...UInt64.max) : UInt64(seed) }

  /// How tokens are sampled: as was said, as the model's makers would have it, or greedily.
  func sampling(_ defaults: SamplingDefaults) -> SamplingOptions {
    var options = SamplingOptions(
      temperature: temperature ?? defaults.temperature ?? 0, topK: topK ?? defaults.topK ?? 40,
      topP: topP ?? defaults.topP ?? 0.9, minP: minP ?? defaults.minP ?? 0, seed: generatorSeed)
    options.repeatPenalty = repeatPenalty ?? defaults.repeatPenalty ?? 1
    return options
  }

  /// Path of the model's file.
  func modelPath() throws -> String { try base.modelPath() }

  func loadModel() async throws -> LanguageModel { try await base.loadModel(kv) }

  /// Opens a session, and says where the attention is another than asked for.
  func makeSession(_ model: LanguageModel) async throws -> Session {
    try await base.makeSession(model, prefixes: .shared)
  }
}
