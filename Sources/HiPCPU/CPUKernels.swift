// SPDX-License-Identifier: Apache-2.0

package import CHiPSIMD
public import HiPTensors

/// An instruction set with kernels of its own.
public enum CPUKernels: String, Sendable, CaseIterable {
  case baseline, avx2, avx512, neon
  /// AVX2 with its 8-bit dot products.
  case avx2VNNI = "avx2-vnni"
  /// NEON with its 8-bit dot products.
  case neonDotProd = "neon-dotprod"
  /// NEON with its 8-bit dot products and products of 8-bit matrices.
  case neonI8MM = "neon-i8mm"
  /// AVX-512 with its 8-bit dot products.
  case avx512VNNI = "avx512-vnni"
  /// AVX-512 with its bfloat16 and 8-bit dot products.
  case avx512BFloat16 = "avx512-bf16"
  /// AVX-512 with matrix units: products of many rows in bfloat16, selections in 8 bits.
  case amx

  /// The kernels that this build holds and this machine can run.
  public static var supported: [CPUKernels] { allCases.filter { $0.table != nil } }

  /// The fastest kernels of this machine.
  ///
  /// Matrix units where they are; else bfloat16 products of vectors are twice as fast as float32 ones on some processors
  /// and half as fast on others.
  public static let best: CPUKernels = {
    let known = supported
    if known.contains(.amx) { return .amx }
    guard known.contains(.avx512BFloat16) else {
      let fastest: [CPUKernels] = [
        .avx512VNNI, .avx512, .avx2VNNI, .avx2, .neonI8MM, .neonDotProd, .neon,
      ]
      return fastest.first { known.contains($0) } ?? .baseline
    }
    let isFast =
      switch ihp_bf16_products() {
      case IHP_BF16_FAST: true
      case IHP_BF16_SLOW: false
      default: measuresBFloat16Fast()
      }
    return isFast ? .avx512BFloat16 : .avx512VNNI
  }()

  /// Half a millisecond of each, the best of three.
  private static func measuresBFloat16Fast() -> Bool {
    guard let table = avx512BFloat16.table?.pointee else { return false }
    let clock = ContinuousClock()
    func best(_ element: ihp_element) -> Double {
      (0..<3).reduce(0) { best, _ in
        var operations = 0.0
        let time = clock.measure { operations = table.peak(element, 50_000) }
        return max(best, operations / (time / .nanoseconds(1)))
      }
    }
    return best(IHP_BF16) > 1.2 * best(IHP_F32)
  }

  /// What the factors of other products of many rows are rounded to; sums are float32.
  public var productElement: ElementType {
    table?.pointee.product_element == IHP_BF16 ? .bfloat16 : .float32
  }

  /// What both factors of products of many rows with quantised weights are rounded to: blocks of 8 bits where there are
  /// dot products of them and none of bfloat16.
  public var quantisedProductElement: ElementType {
    table?.pointee.gemm_blocks == nil ? productElement : .q8_0
  }

  /// Whether selections score keys in 8 bits, and single rows are multiplied with quantised blocks in integers.
  public var computesInIntegers: Bool { table?.pointee.scores_in_integers == 1 }

  package var table: UnsafePointer<ihp_kernels>? {
    switch self {
    case .baseline: ihp_kernels_for(IHP_BASELINE)
    case .avx2: ihp_kernels_for(IHP_AVX2)
    case .avx512: ihp_kernels_for(IHP_AVX512)
    case .neon: ihp_kernels_for(IHP_NEON)
    case .avx2VNNI: ihp_kernels_for(IHP_AVX2_VNNI)
    case .neonDotProd: ihp_kernels_for(IHP_NEON_DOTPROD)
    case .neonI8MM: ihp_kernels_for(IHP_NEON_I8MM)
    case .avx512VNNI: ihp_kernels_for(IHP_AVX512_VNNI)
    case .avx512BFloat16: ihp_kernels_for(IHP_AVX512_BF16)
    case .amx: ihp_kernels_for(IHP_AMX)
    }
  }
}

extension ElementType {
  /// The kernels number elements as GGUF files do.
  package var kernelElement: ihp_element { ihp_element(rawValue: ggufNumber) }
}
