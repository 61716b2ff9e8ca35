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
      "auto" is "infinitehip" here, on a GPU "infinitehip-gpu", since there is no trained length, and what a \
      policy says of single layers does not apply. A first axis of 1, a batch of one, may stand in front. On the \
      CPU keys and values are kept in float32; on a GPU as --kv-type says.
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
      "What stretching, spread, self-extend and dynamic go by; default: none of them happens.",
      valueName: "n"))
  var trainedLength: TokenSize?

  @OptionGroup var options: EngineOptions

  mutating func validate() throws {
    if let ropeBase, !(ropeBase > 1 && ropeBase.isFinite) {
      throw ValidationError("--rope-base is \(ropeBase); give a number above 1")
    }
  }

  func run() throws {
    let choice = try choice()
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
    let result = try attentionOperator().run(
      queries: queries.elements, keys: keys.elements, values: values.elements, shape: shape,
      policy: choice.policy,
      rotary: ropeBase.map { RotaryEmbedding(base: $0, dimensions: shape.headSize) },
      trainedLength: trainedLength?.count ?? .max,
      selection: try blocks.map { try givenBlocks($0, choice) })
    try NumPyArray(shape: queries.fileShape, elements: result.output).write(to: out)
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

  /// The policy, "auto" being the device's own.
  private func choice() throws -> AttentionChoice {
    let choice = try options.attention.choice()
    guard case .cuda = options.place.device, choice == .automatic else { return choice }
    return .gpu
  }

  private func attentionOperator() throws -> AttentionOperator {
    let backend = try options.makeBackend()
    return options.place.device == .cpu
      ? AttentionOperator(on: backend) : AttentionOperator(on: backend, keeping: options.kvType)
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
        path: path, problem: "is not {\"blockSize\": 8, \"blocks\": [head][query block][start]}")
    }
    return selection
  }

  /// An array `[tokens, heads, size]`, with the shape that its file has.
  private struct Input {
    let shape: [Int]
    let fileShape: [Int]
    let elements: [Float]
  }

  private func array(_ path: String, _ name: String) throws -> Input {
    let file = try NumPyArray(path: path)
    // A batch of one, as other frameworks have it.
    let shape = file.shape.count == 4 && file.shape[0] == 1 ? Array(file.shape[1...]) : file.shape
    let array = Input(shape: shape, fileShape: file.shape, elements: file.elements)
    guard shape.count == 3, shape.allSatisfy({ $0 > 0 }) else {
      throw FileError(
        path: path,
        problem:
          "has the shape \(file.shape); \(name) needs [tokens, heads, size], or [1, tokens, heads, size]"
      )
    }
    guard array.elements.allSatisfy(\.isFinite) else {
      throw FileError(
        path: path, problem: "holds values that are not finite; \(name) needs numbers")
    }
    return array
  }
}
