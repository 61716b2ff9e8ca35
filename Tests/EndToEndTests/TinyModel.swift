// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCompute
import HiPModelFiles
import HiPModels
import HiPTensors
import InfiniteHiP
import TestSupport

/// A small model whose weights come from a seed.
struct TinyModel {
  let architecture: DecoderArchitecture
  let weights: SeededWeights

  /// - Parameter edit: changes a weight's elements, by its name.
  init(
    layers: Int = 3, trainedLength: Int = 512,
    edit: @escaping @Sendable (String, inout [Float]) -> Void = { _, _ in }
  ) {
    let layer = LayerPlan(
      rotary: LayerRotary(RotaryEmbedding(base: 10_000, dimensions: 32)),
      feedForward: FeedForwardPlan(size: 96))
    architecture = DecoderArchitecture(
      name: "llama", layers: .init(repeating: layer, count: layers),
      sizes: DecoderArchitecture.Sizes(
        hidden: 64, vocabulary: 160, trainedLength: trainedLength, normEpsilon: 1e-5),
      attention: AttentionShape(heads: 4, kvHeads: 2, headSize: 32), rotaryOrder: .interleaved)
    weights = SeededWeights(edit: edit)
  }

  func runner(
    on backend: any ComputeBackend, capacity: Int = 1 << 28
  ) throws -> ModelRunner {
    ModelRunner(
      try DecoderModel(ModelPlan(architecture, .llama, from: weights), on: backend),
      capacity: capacity)
  }
}

/// Weights of any shape in float32, seeded by their names.
struct SeededWeights: WeightSource {
  let path = "a model made from a seed"
  let names: [String] = []
  /// Whether biases are there where a family may have them.
  var hasBiases = false
  let edit: @Sendable (String, inout [Float]) -> Void

  func hasWeight(named name: String) -> Bool {
    (hasBiases || !name.hasSuffix(".bias")) && name != "output.weight" && name != "lm_head.weight"
  }

  func weight(named name: String, rows: Int, columns: Int) throws(FileError) -> Weight {
    var numbers = SeededNumbers(name.utf8.reduce(7) { $0 &* 31 &+ UInt64($1) })
    var values = numbers.normals(rows * columns).map {
      rows == 1 ? 1 + $0 / 10 : $0 / Float(columns).squareRoot()
    }
    edit(name, &values)
    let memory = try MappedFile(anonymous: path, byteCount: values.count * 4) { bytes in
      values.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
    return Weight(
      name: name, element: .float32, rows: rows, columns: columns,
      bytes: MappedRange(file: memory, range: 0..<values.count * 4))
  }
}
