// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import InfiniteHiP
import TestSupport
import Testing

/// A device under test.
///
/// Another backend joins the suites by joining `available`.
enum TestedBackend: Sendable, CustomTestStringConvertible {
  case cpu(CPUKernels, threads: Int)

  static let available: [TestedBackend] =
    CPUKernels.supported.map { .cpu($0, threads: 2) } + [
      .cpu(.best, threads: 1), .cpu(.best, threads: 7),
    ]

  func make() throws -> any ComputeBackend {
    switch self {
    case .cpu(let kernels, let threads): try CPUBackend(threads: threads, kernels: kernels)
    }
  }

  var testDescription: String {
    switch self {
    case .cpu(let kernels, let threads): "\(kernels.rawValue), \(threads) threads"
    }
  }
}

/// Arrays of one layer, made from a seed.
struct Layer {
  let shape: AttentionShape
  let queries: [Float]
  let keys: [Float]
  let values: [Float]

  /// Keys come in correlated runs and queries lean towards one of them, so that attention is peaked.
  init(queries queryCount: Int, keys keyCount: Int, shape: AttentionShape, seed: UInt64) {
    var numbers = SeededNumbers(seed)
    let width = shape.kvHeads * shape.headSize
    var keys: [Float] = []
    var run: [Float] = []
    for position in 0..<keyCount {
      if position % 16 == 0 { run = numbers.normals(width) }
      for element in 0..<width { keys.append(run[element] + numbers.normals(1)[0] / 2) }
    }
    var queries: [Float] = []
    for _ in 0..<queryCount {
      for head in 0..<shape.heads {
        let start =
          (numbers.index(below: keyCount) * shape.kvHeads + head / shape.groupSize) * shape.headSize
        for element in 0..<shape.headSize {
          queries.append(keys[start + element] + numbers.normals(1)[0])
        }
      }
    }
    self.shape = shape
    self.keys = keys
    self.queries = queries
    values = numbers.normals(keyCount * width)
  }

  func run(
    _ policy: AttentionPolicy, on backend: any ComputeBackend, rotary: RotaryEmbedding?,
    selection: BlockSelection? = nil
  ) throws -> AttentionOperator.Result {
    try AttentionOperator(on: backend).run(
      queries: queries, keys: keys, values: values, shape: shape, policy: policy, rotary: rotary,
      trainedLength: Self.trainedLength, selection: selection)
  }

  func reference(_ rotary: RotaryEmbedding?) -> ReferenceAttention {
    ReferenceAttention(
      queries: queries, keys: keys, values: values, shape: shape, rotary: rotary,
      trainedLength: Self.trainedLength)
  }

  /// Short, so that stretching and squeezing happen.
  static let trainedLength = 128
}
