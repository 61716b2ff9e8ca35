// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPEvaluation
import HiPTensors
import InfiniteHiP

/// What every evaluation can be told.
struct EvaluationOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Policies to compare, separated by commas.", valueName: "list"))
  var policies: String?

  @Option(help: ArgumentHelp("Lengths in tokens, as 8K,32K,1M.", valueName: "list"))
  var lengths: String?

  @Option(help: ArgumentHelp("Questions per task, policy and length.", valueName: "n"))
  var samples: Int?

  @Option(
    help: ArgumentHelp(
      "The text to read or to hide things in; War and Peace by default.", valueName: "f"))
  var file: String?

  @Option(
    help: ArgumentHelp(
      "Folder for results; all but perplexity and recall go on from what is there.",
      valueName: "folder"))
  var out = "infinitehip-eval"

  @Flag(help: "Print one JSON object.")
  var json = false

  mutating func validate() throws {
    if let samples, !(1...100_000).contains(samples) {
      throw ValidationError("--samples is \(samples); give 1 to 100000")
    }
    _ = try sizes(default: [])
  }

  /// The policies, or those named by default.
  func choices(default names: String) throws -> [AttentionChoice] {
    var choices: [AttentionChoice] = []
    for name in (policies ?? names).split(separator: ",") {
      let choice = try AttentionArgument(name: name.trimmingCharacters(in: .whitespaces)).choice()
      if !choices.contains(choice) { choices.append(choice) }
    }
    guard !choices.isEmpty else { throw ValidationError("--policies names no policy") }
    return choices
  }

  /// The lengths, or those given by default.
  func sizes(default sizes: [Int]) throws -> [Int] {
    guard let lengths else { return sizes }
    var result: [Int] = []
    for text in lengths.split(separator: ",") {
      guard let size = TokenSize(argument: text.trimmingCharacters(in: .whitespaces)) else {
        throw ValidationError(
          "--lengths has \"\(text)\"; give numbers of tokens as 8192, 64K or 1M")
      }
      if !result.contains(size.count) { result.append(size.count) }
    }
    guard !result.isEmpty else { throw ValidationError("--lengths names no length") }
    return result
  }

  /// The text of `--file`, or the novel.
  func text() throws -> String { try TextFile.read(file ?? BundledFile.novel.path()) }

  /// Makes the folder, so that whoever cannot write results learns it before they are measured.
  func openFolder() throws {
    let probe = URL(filePath: out).appending(path: ".infinitehip-\(getpid())")
    do {
      try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
      try Data().write(to: probe)
      try FileManager.default.removeItem(at: probe)
    } catch {
      throw FileError(
        .unwritable, path: out,
        problem: "is no folder that results can be written to; give another one with --out",
        cause: error)
    }
  }

  /// Writes a file into the folder.
  func write(_ text: String, to name: String) throws {
    let url = URL(filePath: out).appending(path: name)
    do {
      try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
      try Data(text.utf8).write(to: url)
    } catch {
      throw FileError(
        path: url.path(percentEncoded: false),
        problem: "cannot be written: \(error.localizedDescription)")
    }
  }

  /// Prints results, as JSON when asked to, and writes them into the folder.
  ///
  /// Printed first: what was measured is not lost with a full disk.
  func deliver<Value: Encodable>(
    _ value: Value, _ text: String, as name: String, figures: [(name: String, svg: String)] = []
  ) throws {
    if json { try Terminal.printJSON(value) } else { Terminal.line(text) }
    try write(Terminal.jsonText(value), to: name + ".json")
    try write(text, to: name + ".md")
    for figure in figures { try write(figure.svg, to: figure.name + ".svg") }
  }
}

/// What an evaluation prints with `--json`.
struct EvaluationOutput<Result: Encodable>: Encodable {
  let machine: MachineDescription
  /// Name of the model's file.
  let model: String
  let seed: UInt64
  let results: [Result]

  init(_ model: LanguageModel, seed: UInt64, results: [Result]) async throws {
    machine = MachineDescription(device: try await model.deviceName())
    self.model = URL(filePath: model.path).lastPathComponent
    self.seed = seed
    self.results = results
  }
}
