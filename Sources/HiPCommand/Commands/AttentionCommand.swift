// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPModelFiles
import HiPTensors
import InfiniteHiP

struct AttentionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attention", abstract: "Run one layer of attention on NumPy arrays.",
    discussion: """
      Queries are the last positions of the keys. Nothing is rotated unless --rope-base is given; \
      "auto" is "infinitehip" here, since there is no trained length, and what a policy \
      says of single layers does not apply.
      """)

  @Option(help: ArgumentHelp("Queries [T_q, H, d], not rotated, not scaled.", valueName: "npy"))
  var q: String

  @Option(help: ArgumentHelp("Keys [T, H_kv, d], not rotated.", valueName: "npy"))
  var k: String

  @Option(help: ArgumentHelp("Values [T, H_kv, d].", valueName: "npy"))
  var v: String

  @Option(help: ArgumentHelp("Where the output [T_q, H, d] goes.", valueName: "npy"))
  var out: String

  @Option(help: ArgumentHelp("Where the selected blocks go.", valueName: "json"))
  var selection: String?

  @Option(help: ArgumentHelp("Blocks to read, as --selection writes them.", valueName: "json"))
  var blocks: String?

  @Option(help: ArgumentHelp("Rotate with this base (theta).", valueName: "base"))
  var ropeBase: Double?

  @Option(
    help: ArgumentHelp(
      "What stretching, sharpening, spread, self-extend and dynamic go by; default: none of them happens.",
      valueName: "n"))
  var trainedLength: TokenSize?

  @OptionGroup var options: EngineOptions

  mutating func validate() throws {
    if let ropeBase, !(ropeBase > 1 && ropeBase.isFinite) {
      throw ValidationError("--rope-base is \(ropeBase); give a number above 1")
    }
  }

  func run() throws {
    let choice = try options.attention.choice()
    let queries = try array(q, "--q")
    let keys = try array(k, "--k")
    let values = try array(v, "--v")
    guard keys.shape == values.shape else {
      throw FileError(
        path: v, problem: "has the shape \(values.shape), but the keys have \(keys.shape)")
    }
    guard queries.shape[2] == keys.shape[2] else {
      throw FileError(
        path: q,
        problem: "has heads of \(queries.shape[2]) elements, but the keys have \(keys.shape[2])")
    }
    guard queries.shape[1] % keys.shape[1] == 0 else {
      throw FileError(
        path: q,
        problem: "has \(queries.shape[1]) heads, no multiple of the keys' \(keys.shape[1])")
    }
    let shape = AttentionShape(
      heads: queries.shape[1], kvHeads: keys.shape[1], headSize: keys.shape[2])
    let result = try AttentionOperator(on: options.makeBackend()).run(
      queries: queries.elements, keys: keys.elements, values: values.elements, shape: shape,
      policy: choice.policy,
      rotary: ropeBase.map { RotaryEmbedding(base: $0, dimensions: shape.headSize) },
      trainedLength: trainedLength?.count ?? .max,
      selection: try blocks.map { try givenBlocks($0, choice) })
    try NumPyArray(shape: queries.shape, elements: result.output).write(to: out)
    guard let selection else { return }
    guard let blocks = result.selection else {
      throw ValidationError(
        "--selection: \"\(choice.name)\" selects no blocks; only hierarchical policies do")
    }
    do {
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys
      try encoder.encode(blocks).write(to: URL(filePath: selection))
    } catch {
      throw FileError(
        path: selection, problem: "cannot be written; name a file in a folder that exists")
    }
  }

  private func givenBlocks(_ path: String, _ choice: AttentionChoice) throws -> BlockSelection {
    guard case .hierarchical = choice.policy else {
      throw ValidationError("--blocks needs a hierarchical policy, not \"\(choice.name)\"")
    }
    guard
      let selection = try? JSONDecoder().decode(
        BlockSelection.self, from: Data(TextFile.read(path).utf8))
    else {
      throw FileError(
        path: path,
        problem:
          "is not {\"blockSize\": 8, \"blocks\": [head][query block][start]}, optionally with "
          + "\"held\": [head][query block]")
    }
    return selection
  }

  private func array(_ path: String, _ name: String) throws -> NumPyArray {
    let array = try NumPyArray(path: path)
    guard array.shape.count == 3, array.shape.allSatisfy({ $0 > 0 }) else {
      throw FileError(
        path: path, problem: "has the shape \(array.shape); \(name) needs [tokens, heads, size]")
    }
    guard array.elements.allSatisfy(\.isFinite) else {
      throw FileError(
        path: path, problem: "holds values that are not finite; \(name) needs numbers")
    }
    return array
  }
}
