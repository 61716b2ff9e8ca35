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

/// What a command can be told about a model and how it attends.
struct ModelOptions: ParsableArguments {
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
      "Kernels of the CPU; amx and avx512-bf16 round factors to bfloat16, those with vnni, dotprod or i8mm in their name quantised weights' to 8 bits. (default: "
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
    help: ArgumentHelp(
      "The most tokens of text and answers together, as 8192, 64K or 1M.", valueName: "n"))
  var context: TokenSize?

  @OptionGroup(title: "Device") var place: DeviceOptions

  mutating func validate() throws {
    try place.refuse([
      ("--threads", threads != nil), ("--kernels", kernels != nil), ("--weights", weights != nil),
    ])
    if model == "" { throw ValidationError("--model is empty; give a GGUF file or a folder") }
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads); give 1 to 1024")
    }
  }

  var contextLimit: Int { context?.count ?? LanguageModel.defaultContextLimit }

  /// Makes the device, on the thread that calls it.
  var makeBackend: @Sendable () throws -> any ComputeBackend {
    let (threads, kernels, place) = (threads, kernels ?? .best, place)
    return {
      switch place.device {
      case .cpu: try CPUBackend(threads: threads, kernels: kernels)
      case .cuda(let number): try place.makeCUDA(number)
      }
    }
  }

  /// Path of the model's file.
  func modelPath() throws -> String { try model ?? BundledFile.demoModel.path() }

  /// Loads the model; on a GPU there is no tier below its memory.
  func loadModel(_ kv: TierOptions? = nil) async throws -> LanguageModel {
    let isOnCPU = place.device == .cpu
    if !isOnCPU { try kv?.refuseFiles() }
    let model = try await LanguageModel.load(
      modelPath(), template: template.map { .jinja(try TextFile.read($0)) }, kvType: kvType,
      weights: weights, cacheLimit: kv?.kvRam?.count, tiers: isOnCPU ? kv?.tiers() : nil,
      on: makeBackend)
    for notice in model.description.notices { Terminal.note("[\(notice)]\n") }
    return model
  }

  /// Opens a session, and says where the attention is another than asked for.
  func makeSession(
    _ model: LanguageModel, prefixes: PrefixSharing = .none
  ) async throws -> Session {
    let session = try await model.makeSession(
      attention: attention.choice(), contextLimit: contextLimit, prefixes: prefixes)
    try noteAttention(of: session, model)
    return session
  }

  /// Opens a session that begins with a saved context; what is to be known of it.
  func openContext(
    _ path: String, _ model: LanguageModel
  ) async throws -> (session: Session, notices: [String]) {
    let (session, notices) = try await model.openContext(
      path, attention: attention.choice(), contextLimit: contextLimit)
    try noteAttention(of: session, model)
    return (session, notices)
  }

  private func noteAttention(of session: Session, _ model: LanguageModel) throws {
    let choice = try attention.choice()
    if session.attention != choice, let reach = session.attention.reach {
      Terminal.note(
        "[attention: \(choice.name) over \(reach) positions at most, as the model was trained on "
          + "\(model.architecture.trainedLength)]\n")
    }
  }
}
