// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCUDA
import HiPCompute
import HiPTensors
import InfiniteHiP
import TestSupport
import Testing

/// A device under test.
///
/// Another backend joins the suites by joining `available`.
enum TestedBackend: Sendable, CustomTestStringConvertible {
  case cpu(CPUKernels, threads: Int)
  /// A GPU that keeps keys and values in this type.
  case cuda(CUDABackend.Kernels, KVType)

  static let cpus: [TestedBackend] =
    CPUKernels.supported.map { .cpu($0, threads: 2) } + [
      .cpu(.best, threads: 1), .cpu(.best, threads: 7),
    ]

  static let gpus: [TestedBackend] =
    TestGPU.isThere ? [.cuda(.plain, .f32), .cuda(.tuned, .bf16), .cuda(.tuned, .f16)] : []

  static let available = cpus + gpus

  var isGPU: Bool {
    switch self {
    case .cpu: false
    case .cuda: true
    }
  }

  /// How keys and values are kept.
  var kvType: KVType {
    switch self {
    case .cpu: .f32
    case .cuda(_, let type): type
    }
  }

  /// How they are kept where a suite looks at the store itself.
  var storedType: KVType {
    switch self {
    case .cpu: .f16
    case .cuda(_, let type): type
    }
  }

  /// Whether factors of the attention are rounded to few bits.
  private var roundsFactors: Bool {
    switch self {
    case .cpu(let kernels, _): kernels.productElement != .float32
    case .cuda(let kernels, _): kernels == .tuned
    }
  }

  /// Whether scores of selections are rounded.
  private var roundsScores: Bool {
    switch self {
    case .cpu(let kernels, _): kernels.computesInIntegers
    case .cuda(let kernels, _): kernels == .tuned
    }
  }

  /// How far outputs may be from the reference.
  ///
  /// In float32, sums of up to 300 terms around 1 err by about 1e-6: measured worst 2.1e-6. Factors
  /// in bfloat16 are off by 2^-9 of themselves: measured worst 1.9e-2.
  var tolerance: Double { roundsFactors ? 3e-2 : 1e-5 }

  /// The least share of blocks in common with the reference.
  ///
  /// Where scores are rounded, near ties fall either way: measured 0.990 and 0.993.
  var blocksInCommon: Double { roundsScores ? 0.97 : 1 }

  /// The fastest of this machine's CPU, and the fastest that rounds no factor; all GPUs.
  static let fastest: [TestedBackend] =
    (CPUKernels.fastestExact == .best
      ? [.cpu(.best, threads: 2)]
      : [.cpu(.fastestExact, threads: 2), .cpu(.best, threads: 2)]) + gpus

  func make() throws -> any ComputeBackend {
    switch self {
    case .cpu(let kernels, let threads): try CPUBackend(threads: threads, kernels: kernels)
    case .cuda(let kernels, _): try TestGPU.open(kernels)
    }
  }

  var testDescription: String {
    switch self {
    case .cpu(let kernels, let threads): "\(kernels.rawValue), \(threads) threads"
    case .cuda(let kernels, let type): "GPU, \(kernels.rawValue) kernels, \(type.rawValue)"
    }
  }
}

extension CPUKernels {
  /// The fastest that rounds no factor.
  static var fastestExact: CPUKernels {
    supported.last { $0.productElement == .float32 && !$0.computesInIntegers } ?? .baseline
  }
}

/// How many blocks two ways of selecting have in common, over many selections: in a single one, of
/// ten blocks say, one near tie would be a tenth.
struct CommonBlocks: CustomStringConvertible {
  private var common = 0
  private var all = 0
  private var exchanges: [String] = []

  var share: Double { Double(common) / Double(max(1, all)) }
  var description: String { "\(common) of \(all) blocks, other ones in: \(exchanges)" }

  /// Counts a selection; of lists that differ in length no block counts as common.
  mutating func add(_ selection: BlockSelection?, _ expected: BlockSelection, _ name: String) {
    if selection?.blocks != expected.blocks { exchanges.append(name) }
    let lists = expected.blocks.flatMap { $0 }
    let found = selection?.blocks.flatMap { $0 } ?? []
    all += lists.reduce(0) { $0 + $1.count }
    guard found.map(\.count) == lists.map(\.count) else { return }
    for (some, others) in zip(found, lists) { common += Set(some).intersection(others).count }
  }
}

/// Arrays of one layer, made from a seed.
struct Layer {
  let shape: AttentionShape
  let queries: [Float]
  let keys: [Float]
  let values: [Float]

  /// Keys come in correlated runs and queries lean towards one of them, so that attention is peaked.
  ///
  /// All are rounded to how the device keeps keys, so that what it computes with is what the reference has.
  init(
    queries queryCount: Int, keys keyCount: Int, shape: AttentionShape, seed: UInt64,
    for tested: TestedBackend? = nil
  ) {
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
    func rounded(_ values: [Float]) -> [Float] {
      switch tested?.kvType {
      case .bf16:
        values.map { value in
          let bits = value.bitPattern
          return Float(bitPattern: (bits &+ 0x7fff &+ (bits >> 16 & 1)) & 0xffff_0000)
        }
      case .f16: values.map { Float(Float16($0)) }
      default: values
      }
    }
    self.shape = shape
    self.keys = rounded(keys)
    self.queries = rounded(queries)
    values = rounded(numbers.normals(keyCount * width))
  }

  func run(
    _ policy: AttentionPolicy, on backend: any AttentionBackend, keeping type: KVType = .f32,
    rotary: RotaryEmbedding?, sinks: [Float] = [], trainedLength: Int = Self.trainedLength,
    selection: BlockSelection? = nil
  ) throws -> AttentionOperator.Result {
    try AttentionOperator(on: backend, keeping: type).run(
      queries: queries, keys: keys, values: values, shape: shape, policy: policy, rotary: rotary,
      sinks: sinks, trainedLength: trainedLength, selection: selection)
  }

  func reference(
    _ rotary: RotaryEmbedding?, sinks: [Float] = [], trainedLength: Int = Self.trainedLength
  ) -> ReferenceAttention {
    ReferenceAttention(
      queries: queries, keys: keys, values: values, shape: shape, rotary: rotary, sinks: sinks,
      trainedLength: trainedLength)
  }

  /// Short, so that stretching and squeezing happen.
  static let trainedLength = 128
}
