// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
internal import HiPCompute
internal import HiPTensors

/// Which variant of the attention kernels serves some heads, and what all of them are launched with.
struct AttentionVariant {
  let shape: AttentionShape
  let element: ElementType

  private static let headSizes: Set<Int> = [64, 96, 128, 256]
  private static let blockSizes: Set<Int> = [8, 16, 32, 64]
  /// Heads of a group: the rows of two products.
  private static let largestGroup = 16

  /// What the kernels call an element type; nil: they do not have it.
  private var elementName: String? {
    switch element {
    case .float16: "Half"
    case .bfloat16: "BFloat16"
    default: nil
    }
  }

  /// Whether there are kernels for these heads, and for blocks of so many keys.
  func isSupported(blockKeys: Int?) -> Bool {
    elementName != nil && Self.headSizes.contains(shape.headSize)
      && shape.groupSize <= Self.largestGroup && blockKeys.map(Self.blockSizes.contains) ?? true
  }

  /// A program for these heads.
  func program(
    _ file: String, softCaps: Bool = true, isGrouped: Bool = true,
    _ more: [(name: String, value: Int)] = []
  ) throws(ComputeError) -> KernelProgram {
    guard let elementName, isSupported(blockKeys: nil) else {
      throw ComputeError(
        .unsupported,
        "the GPU's tuned attention has heads of 64, 96, 128 and 256 elements in f16 or bf16, up to \(Self.largestGroup) "
          + "for a key-value head, and not \(shape.headSize) in \(element.rawValue), \(shape.groupSize)"
      )
    }
    var macros = [
      KernelProgram.Macro("ELEMENT", elementName), KernelProgram.Macro("HEAD_SIZE", shape.headSize),
    ]
    if isGrouped { macros.append(KernelProgram.Macro("GROUP", shape.groupSize)) }
    if isGrouped && softCaps {
      macros.append(KernelProgram.Macro("SOFT_CAP", shape.softCap == nil ? 0 : 1))
    }
    return KernelProgram(file, macros + more.map { KernelProgram.Macro($0.name, $0.value) })
  }

  var headSize: Int32 { Int32(clamping: shape.headSize) }
  var groupSize: Int32 { Int32(clamping: shape.groupSize) }
  var kvHeads: Int32 { Int32(clamping: shape.kvHeads) }
  var softCap: Float { shape.softCap ?? 0 }

  /// Shapes that stand for all of them where programs are compiled ahead.
  static let samples: [AttentionVariant] = [
    AttentionVariant(
      shape: AttentionShape(heads: 32, kvHeads: 8, headSize: 128), element: .bfloat16),
    AttentionVariant(
      shape: AttentionShape(heads: 9, kvHeads: 3, headSize: 64), element: .float16),
    AttentionVariant(
      shape: AttentionShape(heads: 16, kvHeads: 2, headSize: 256, softCap: 50), element: .bfloat16),
    AttentionVariant(shape: AttentionShape(heads: 4, kvHeads: 4, headSize: 96), element: .float16),
  ]
}

extension LoadedKernels {
  /// Whether the code has Hopper's products of warpgroups and bulk copies.
  var isHopper: Bool { architecture.name == "sm_90a" }

  /// Whether launches may begin before what is in front of them is done, and blocks form clusters.
  var overlaps: Bool { device.facts.capability.major >= 9 }
}

extension DeviceFacts {
  /// An H100, where it does not matter which GPU it is.
  package static let hopper = DeviceFacts(
    name: "NVIDIA H100", capability: Capability(9, 0), memoryByteCount: 80 << 30,
    multiprocessorCount: 132, cacheByteCount: 50 << 20, sharedByteCount: 227 << 10,
    clockHertz: 1.98e9, peakBandwidth: 3.35e12)

  /// Whether code for it has Hopper's products of warpgroups.
  var isHopper: Bool { capability == Capability(9, 0) }
}

extension Int {
  /// The next multiple.
  func rounded(upTo step: Int) -> Int { (self + step - 1) / step * step }
}

extension Int32 {
  init(_ flag: Bool) { self = flag ? 1 : 0 }
}
