// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPCPU
import HiPCompute
import HiPEvaluation
import HiPModelFiles
import HiPModels
import HiPTokenization
import InfiniteHiP

struct InspectCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show a model's architecture, tensors and tokenizer, and the memory of a context.")

  @Argument(
    help: ArgumentHelp(
      "GGUF file or Hugging Face folder; the demo model by default.", valueName: "model"))
  var path: String?

  @Flag(help: "List every tensor.")
  var tensors = false

  @Flag(help: "Print one JSON object.")
  var json = false

  @OptionGroup var options: EngineOptions

  struct Output: Encodable {
    let path: String
    let architecture: String
    let parameters: Int
    let layers: Int
    let hiddenSize: Int
    let feedForwardSize: Int
    let heads: Int
    let kvHeads: Int
    let headSize: Int
    let trainedLength: Int
    let vocabularySize: Int
    /// Why the chat template cannot be used, or that there is none; nil when it can.
    let chatTemplateProblem: String?
    let tensorTypes: [String: Int]
    let tensors: [Tensor]?
    let bytesPerToken: Int
    let memory: [Memory]
  }

  struct Tensor: Encodable {
    let name: String
    let type: String
    let shape: [Int]
  }

  struct Memory: Encodable {
    let contextTokens: Int
    let weightBytes: Int
    let cacheBytes: Int
    let workingBytes: Int
    let totalBytes: Int
  }

  func run() async throws {
    let choice = try options.attention.choice()
    let file = try ModelFile(path: path ?? options.modelPath())
    let output = try await describe(file, choice)
    if json {
      try Terminal.printJSON(output)
    } else {
      try printText(output, file, choice)
    }
  }

  private func describe(_ file: ModelFile, _ choice: AttentionChoice) async throws -> Output {
    let model = try await LanguageModel(
      file, template: options.template.map { .jinja(try TextFile.read($0)) },
      kvType: options.kvType,
      weights: options.weights, on: options.makeBackend)
    let architecture = model.architecture
    let format = model.kvFormat([choice.policy])
    let contexts =
      options.context.map { [$0.count] } ?? [
        architecture.trainedLength, 32 << 10, 128 << 10, 1 << 20,
      ]
    var memory: [Memory] = []
    for tokens in Set(contexts).sorted() {
      let estimate = try await model.memory(of: tokens, attention: choice)
      memory.append(
        Memory(
          contextTokens: tokens, weightBytes: estimate.weightBytes,
          cacheBytes: estimate.cacheBytes, workingBytes: estimate.workingBytes,
          totalBytes: estimate.totalBytes))
    }
    return Output(
      path: file.path, architecture: architecture.name,
      parameters: file.tensors.reduce(0) { sum, tensor in
        let (total, overflow) = sum.addingReportingOverflow(tensor.shape.reduce(1, *))
        return overflow ? Int.max : total
      },
      layers: architecture.layerCount, hiddenSize: architecture.hiddenSize,
      feedForwardSize: architecture.feedForwardSize, heads: architecture.attention.heads,
      kvHeads: architecture.attention.kvHeads, headSize: architecture.attention.headSize,
      trainedLength: architecture.trainedLength, vocabularySize: architecture.vocabularySize,
      chatTemplateProblem: model.chatTemplateProblem,
      tensorTypes: Dictionary(file.tensors.map { ($0.type, 1) }, uniquingKeysWith: +),
      tensors: tensors
        ? file.tensors.map { Tensor(name: $0.name, type: $0.type, shape: $0.shape) }
        : nil,
      bytesPerToken: format.blockByteCount / format.blockSize, memory: memory)
  }

  private func printText(_ output: Output, _ file: ModelFile, _ choice: AttentionChoice) throws {
    let name = file.name ?? "unnamed"
    let types = output.tensorTypes.sorted { $0.value > $1.value }
      .map { "\($0.value) \($0.key)" }.joined(separator: ", ")
    let hasTemplate = try ModelText(file).template != nil
    let template =
      output.chatTemplateProblem == nil ? "present" : hasTemplate ? "unusable, use --raw" : "none"
    Terminal.line(
      """
      \(output.path)
        name            \(name)
        architecture    \(output.architecture), \(decimal(Double(output.parameters) / 1e6, 1)) M \
      parameters
        layers          \(output.layers), hidden \(output.hiddenSize), feed-forward \
      \(output.feedForwardSize)
        attention       \(output.heads) query heads over \(output.kvHeads) key-value heads of \
      \(output.headSize)
        trained length  \(sizeText(output.trainedLength)) tokens
        tensors         \(types)
        vocabulary      \(output.vocabularySize) tokens; chat template: \
      \(template)

      Memory with --attention \(choice.name) (\(output.bytesPerToken) bytes a token)
        context   weights     cache   working     total
      """)
    for row in output.memory {
      Terminal.line(
        "  " + pad(sizeText(row.contextTokens), 7) + " " + pad(byteText(row.weightBytes), 9) + " "
          + pad(byteText(row.cacheBytes), 9) + " " + pad(byteText(row.workingBytes), 9) + " "
          + pad(byteText(row.totalBytes), 9))
    }
    guard let tensors = output.tensors else { return }
    Terminal.line("\nTensors")
    for tensor in tensors { Terminal.line("  \(tensor.name)  \(tensor.type)  \(tensor.shape)") }
  }
}

/// The text moved to the right end of `width` columns.
func pad(_ text: String, _ width: Int) -> String {
  String(repeating: " ", count: max(0, width - text.count)) + text
}
