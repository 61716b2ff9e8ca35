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

  /// What the kernels call the element type; nil: they do not have it.
  private var elementName: String? { element == .float32 ? nil : element.kernelName }

  /// Whether there are kernels for these heads, and for blocks of so many keys.
  func isSupported(blockKeys: Int?) -> Bool {
    elementName != nil && Self.headSizes.contains(shape.headSize)
      && shape.groupSize <= Self.largestGroup && blockKeys.map(Self.blockSizes.contains) ?? true
  }

  /// A program for these heads.
  func program(
    _ file: String, isGrouped: Bool = true,
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
    if isGrouped {
      macros.append(KernelProgram.Macro("GROUP", shape.groupSize))
      macros.append(KernelProgram.Macro("SOFT_CAP", shape.softCap == nil ? 0 : 1))
    }
    return KernelProgram(file, macros + more.map { KernelProgram.Macro($0.name, $0.value) })
  }

  /// Why attention was refused that `supports` says false of.
  func refusal(on device: DeviceFacts) -> ComputeError {
    ComputeError(
      .unsupported,
      "\(device.name) has no tuned attention of \(shape.groupSize) heads for a key-value head, of \(shape.headSize) "
        + "elements in \(element.rawValue), with such blocks; attend with the plain kernels")
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
  /// Whether code for it has Hopper's products of warpgroups.
  var isHopper: Bool { capability == Capability(9, 0) }

  /// Bytes of shared memory that launches may ask for; kernels have a few of their own besides.
  var launchSharedByteCount: Int { sharedByteCount - 1024 }
}

extension Int {
  /// The next multiple.
  func rounded(upTo step: Int) -> Int { (self + step - 1) / step * step }
}

extension Int32 {
  init(_ flag: Bool) { self = flag ? 1 : 0 }
}
