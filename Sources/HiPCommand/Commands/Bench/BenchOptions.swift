// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
import Foundation
import HiPAttention
public import HiPBench
import HiPCPU
import HiPCompute
import HiPModelFiles
import HiPModels
public import HiPTensors
import InfiniteHiP

extension ModelShape: ExpressibleByArgument {}
extension ElementType: ExpressibleByArgument {}

/// Where a measurement runs and how it is shown.
struct BenchDeviceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Threads that compute. (default: one per core that the process may use)", valueName: "n"))
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "Kernels of the CPU. (default: \(CPUKernels.best.rawValue))", valueName: "set"))
  var kernels: CPUKernels?

  @Flag(help: "Print one JSON object.")
  var json = false

  mutating func validate() throws {
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads); give 1 to 1024")
    }
  }

  func makeBackend() throws -> CPUBackend {
    try CPUBackend(threads: threads, kernels: kernels ?? .best)
  }
}

/// Which model is measured, at which depths.
struct BenchModelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("GGUF file of the model; the demo model by default.", valueName: "file"))
  var model: String?

  @Option(help: ArgumentHelp("A model's shape with random weights instead.", valueName: "shape"))
  var shape: ModelShape?

  @Option(help: ArgumentHelp("How random weights are stored.", valueName: "type"))
  var weights = ElementType.q8_0

  @Option(
    help: ArgumentHelp(
      "What tokens attend to: a preset's name or a JSON file; several with commas.",
      valueName: "list"))
  var attention = "auto"

  @Option(help: ArgumentHelp("Tokens that stand before, as 0,8K,1M.", valueName: "list"))
  var depths = "0"

  @Option(help: ArgumentHelp("How keys and values are kept.", valueName: "type"))
  var kvType = KVType.f16

  mutating func validate() throws {
    if shape != nil, model != nil {
      throw ValidationError("--shape and --model exclude each other; give one")
    }
    _ = try depthList()
  }

  func depthList() throws -> [Int] {
    let list = try depths.split(separator: ",").map { part in
      if part == "0" { return 0 }
      guard let size = TokenSize(argument: String(part)) else {
        throw ValidationError(
          "--depths has \"\(part)\"; give numbers of tokens as 0, 8192, 64K or 1M")
      }
      return size.count
    }
    guard !list.isEmpty else { throw ValidationError("--depths names no depth") }
    return list
  }

  func choices() throws -> [AttentionChoice] {
    let choices = try attention.split(separator: ",").map {
      try AttentionArgument(name: String($0)).choice()
    }
    guard !choices.isEmpty else { throw ValidationError("--attention names no policy") }
    return choices
  }

  /// The weights on a device, and what to call them.
  func load(on backend: CPUBackend) throws -> (model: DecoderModel, name: String) {
    if let shape {
      let byteCount = shape.parameterCount / weights.blockSize * weights.blockByteCount
      guard byteCount < MachineMemory.physicalByteCount else {
        throw ValidationError(
          "\(shape.rawValue) in \(weights.rawValue) takes \(byteText(byteCount)); this machine has "
            + byteText(MachineMemory.physicalByteCount))
      }
      let weights = RandomWeights(shape, element: weights)
      let model = try DecoderModel(
        ModelPlan(shape.architecture, .llama, from: weights), on: backend)
      return (model, "\(shape.rawValue), random \(self.weights.rawValue) weights")
    }
    let path = try model ?? BundledFile.demoModel.path()
    return (
      try DecoderModel(ModelPlan(ModelFile(path: path)), on: backend),
      URL(filePath: path).lastPathComponent
    )
  }
}
