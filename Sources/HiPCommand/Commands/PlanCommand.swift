// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPBench
import HiPEvaluation
import HiPModelFiles
import HiPModels
import InfiniteHiP

struct PlanCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "What a context takes of memory, files and time, before it is read.",
    discussion: "Example:  infinitehip plan --context 3M --kv-ram 2G")

  @Flag(help: "Print one JSON object.")
  var json = false

  @Flag(help: "Measure no speed.")
  var noTime = false

  @OptionGroup var options: ModelOptions
  @OptionGroup(title: "Keys and values") var kv: TierOptions

  struct Output: Encodable {
    let model: String
    let tokens: Int
    let attention: String
    let weightBytes: Int
    let workingBytes: Int
    let sketchBytes: Int
    let keyValueBytes: Int
    let keyValueBytesInMemory: Int
    let fileBytes: Int
    let writesPerDay: Int
    let prefillSeconds: Double?
    let problem: String?
  }

  func run() async throws {
    let model = try await options.loadModel(kv)
    let choice = try options.attention.choice()
    let tokens = options.context?.count ?? model.architecture.trainedLength
    let plan = try await model.plan(tokens, attention: choice)
    let memory = try await model.memory(of: tokens, attention: choice)
    let path = try options.modelPath()
    let output = Output(
      model: path, tokens: tokens, attention: choice.name, weightBytes: memory.weightBytes,
      workingBytes: memory.workingBytes, sketchBytes: plan.sketchBytes,
      keyValueBytes: plan.pageBytes, keyValueBytesInMemory: plan.memoryPageBytes,
      fileBytes: plan.fileBytes, writesPerDay: kv.kvWrites.count,
      // On a GPU a second copy of the weights would be needed.
      prefillSeconds: noTime || plan.problem != nil || options.place.device != .cpu
        ? nil : try forecast(path, model, choice, tokens), problem: plan.problem)
    if json {
      try Terminal.printJSON(output)
    } else {
      printText(output)
    }
    if plan.problem != nil { throw ExitCode.failure }
  }

  /// Seconds of the prefill, from short ones behind random keys.
  private func forecast(
    _ path: String, _ model: LanguageModel, _ choice: AttentionChoice, _ tokens: Int
  ) throws -> Double? {
    let backend = try options.makeBackend()
    let decoder = try DecoderModel(
      ModelPlan(ModelFile(path: path)), on: backend, rounding: options.weights)
    return try PrefillForecast(
      decoder, choice, decoder.architecture.kvFormat(options.kvType, [choice.policy]),
      length: tokens, memory: model.cacheLimit
    ).seconds(of: tokens)
  }

  private func printText(_ output: Output) {
    func row(_ name: String, _ memory: Int, _ file: Int?) {
      Terminal.line(
        name.padding(toLength: 18, withPad: " ", startingAt: 0) + pad(byteText(memory), 10)
          + pad(file.map { $0 > 0 ? byteText($0) : "–" } ?? "–", 12))
    }
    let hasFile = output.fileBytes > 0
    Terminal.line(
      "\(output.model), \(sizeText(output.tokens)) tokens, attention \(output.attention)\n")
    Terminal.line("                      memory       files")
    row("weights", output.weightBytes, nil)
    row(
      "keys and values", output.keyValueBytesInMemory,
      hasFile ? output.fileBytes - output.sketchBytes : nil)
    row("sketches", output.sketchBytes, hasFile ? output.sketchBytes : nil)
    row("working memory", output.workingBytes, nil)
    row(
      "together",
      output.weightBytes + output.keyValueBytesInMemory + output.sketchBytes + output.workingBytes,
      hasFile ? output.fileBytes : nil)
    if let problem = output.problem {
      Terminal.line("\nDoes not fit: \(problem).")
      return
    }
    if hasFile {
      Terminal.line(
        "\nWrites \(byteText(output.fileBytes)) of the \(byteText(output.writesPerDay)) that a day allows (--kv-writes)."
      )
    }
    if let seconds = output.prefillSeconds {
      Terminal.line(
        "Prefill takes about \(durationText(seconds)), \(decimal(Double(output.tokens) / seconds, 0)) tokens/s on "
          + "average, by short ones measured now.")
    }
  }
}

/// A time as people say it.
private func durationText(_ seconds: Double) -> String {
  if seconds < 120 { return "\(decimal(seconds, 0)) s" }
  return seconds < 7200 ? "\(decimal(seconds / 60, 0)) min" : "\(decimal(seconds / 3600, 1)) h"
}
