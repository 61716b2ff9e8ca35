// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
import HiPAttention
public import HiPCPU
public import HiPCompute
import InfiniteHiP

extension CPUKernels: ExpressibleByArgument {
  /// Those that this machine runs.
  public static var allValueStrings: [String] { supported.map(\.rawValue) }
}

extension KVType: ExpressibleByArgument {}

/// What every command can be told about model, attention and sampling.
struct EngineOptions: ParsableArguments {
  @Option(help: ArgumentHelp("GGUF file or Hugging Face folder of the model.", valueName: "path"))
  var model: String?

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

  @Option(parsing: .unconditional, help: ArgumentHelp("Seed of everything random.", valueName: "n"))
  var seed: UInt64 = 0

  @Option(
    parsing: .unconditional, help: ArgumentHelp("0 takes the most probable token.", valueName: "t"))
  var temperature: Double = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Keep the n most probable tokens; 0 keeps all.", valueName: "n"))
  var topK = 40

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Keep tokens that together reach p.", valueName: "p"))
  var topP = 0.9

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Keep tokens above this share of the best.", valueName: "p"))
  var minP = 0.0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Penalty on recent tokens; 1 is none.", valueName: "r"))
  var repeatPenalty = 1.0

  @Option(
    parsing: .unconditional, help: ArgumentHelp("The most tokens of an answer.", valueName: "n"))
  var maxTokens = 512

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "The most tokens of text and answers together, as 8192, 64K or 1M.", valueName: "n"))
  var context: TokenSize?

  mutating func validate() throws {
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads); give 1 to 1024")
    }
    guard maxTokens >= 1 else {
      throw ValidationError("--max-tokens is \(maxTokens); give 1 or more")
    }
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temperature is \(temperature); give 0 or more")
    }
    guard topK >= 0 else { throw ValidationError("--top-k is \(topK); give 0 or more") }
    guard topP > 0, topP <= 1 else {
      throw ValidationError("--top-p is \(topP); give a value above 0, at most 1")
    }
    guard minP >= 0, minP <= 1 else {
      throw ValidationError("--min-p is \(minP); give a value from 0 to 1")
    }
    guard (0.01...100).contains(repeatPenalty) else {
      throw ValidationError("--repeat-penalty is \(repeatPenalty); give a value from 0.01 to 100")
    }
  }

  var sampling: SamplingOptions {
    var options = SamplingOptions(
      temperature: temperature, topK: topK, topP: topP, minP: minP, seed: seed)
    options.repeatPenalty = repeatPenalty
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
    try await LanguageModel.load(modelPath(), kvType: kvType, on: makeBackend)
  }
}
