// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
import HiPAttention
public import HiPCPU
public import HiPCompute
public import HiPModels
import InfiniteHiP

extension CPUKernels: ExpressibleByArgument {
  /// Those that this machine runs.
  public static var allValueStrings: [String] { supported.map(\.rawValue) }
}

extension KVType: ExpressibleByArgument {}

extension WeightFormat: ExpressibleByArgument {}

/// What every command can be told about model, attention and sampling.
struct EngineOptions: ParsableArguments {
  @Option(help: ArgumentHelp("GGUF file or Hugging Face folder of the model.", valueName: "path"))
  var model: String?

  @Option(
    help: ArgumentHelp(
      "Jinja file to write conversations by, in place of the model's.", valueName: "f"))
  var template: String?

  @Option(
    help: ArgumentHelp(
      "What tokens attend to: \(AttentionArgument.names), or a JSON file.", valueName: "policy"))
  var attention = AttentionArgument(name: AttentionChoice.automatic.name)

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Threads that compute. (default: one per core that the process may use)", valueName: "n"))
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "Kernels of the CPU; those but avx512-bf16 round no factor to bfloat16. (default: "
        + "\(CPUKernels.best.rawValue))", valueName: "set"))
  var kernels: CPUKernels?

  @Option(
    help: ArgumentHelp("How keys and values are kept; q8 takes half the memory.", valueName: "type")
  )
  var kvType = KVType.f16

  @Option(
    help: ArgumentHelp(
      "What the weights are rounded to while they are loaded; where rows are no multiple of 256, q4_k makes q8_0.",
      valueName: "type"))
  var weights: WeightFormat?

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

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "The most tokens of text and answers together, as 8192, 64K or 1M.", valueName: "n"))
  var context: TokenSize?

  mutating func validate() throws {
    if model == "" { throw ValidationError("--model is empty; give a GGUF file or a folder") }
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads); give 1 to 1024")
    }
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

  var contextLimit: Int { context?.count ?? LanguageModel.defaultContextLimit }

  /// Makes the device, on the thread that calls it.
  var makeBackend: @Sendable () throws -> CPUBackend {
    let (threads, kernels) = (threads, kernels ?? .best)
    return { try CPUBackend(threads: threads, kernels: kernels) }
  }

  /// Path of the model's file.
  func modelPath() throws -> String { try model ?? BundledFile.demoModel.path() }

  func loadModel() async throws -> LanguageModel {
    let model = try await LanguageModel.load(
      modelPath(), template: template.map { .jinja(try TextFile.read($0)) }, kvType: kvType,
      weights: weights, on: makeBackend)
    for notice in model.description.notices { Terminal.note("[\(notice)]\n") }
    return model
  }

  /// Opens a session, and says where the attention is another than asked for.
  func makeSession(_ model: LanguageModel) async throws -> Session {
    let choice = try attention.choice()
    let session = try await model.makeSession(attention: choice, contextLimit: contextLimit)
    if session.attention != choice, let reach = session.attention.reach {
      Terminal.note(
        "[attention: \(choice.name) over \(reach) positions at most, as the model was trained on "
          + "\(model.architecture.trainedLength)]\n")
    }
    return session
  }
}
