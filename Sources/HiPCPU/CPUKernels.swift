// SPDX-License-Identifier: Apache-2.0

package import CHiPSIMD
public import HiPTensors

/// An instruction set with kernels of its own.
public enum CPUKernels: String, Sendable, CaseIterable {
  case baseline, avx2, avx512, neon
  /// AVX-512 with its bfloat16 and 8-bit dot products; the others compute in float32.
  case avx512BFloat16 = "avx512-bf16"

  /// The kernels that this build holds and this machine can run, slowest first.
  public static var supported: [CPUKernels] { allCases.filter { $0.table != nil } }

  /// The fastest kernels of this machine.
  public static var best: CPUKernels { supported.last ?? .baseline }

  /// What the factors of products are rounded to; sums are float32.
  ///
  /// With bfloat16, selections also score keys in 8 bits.
  public var productElement: ElementType { self == .avx512BFloat16 ? .bfloat16 : .float32 }

  package var table: UnsafePointer<hip_kernels>? {
    switch self {
    case .baseline: hip_kernels_for(HIP_BASELINE)
    case .avx2: hip_kernels_for(HIP_AVX2)
    case .avx512: hip_kernels_for(HIP_AVX512)
    case .neon: hip_kernels_for(HIP_NEON)
    case .avx512BFloat16: hip_kernels_for(HIP_AVX512_BF16)
    }
  }
}

extension ElementType {
  var kernelElement: hip_element {
    switch self {
    case .float32: HIP_F32
    case .float16: HIP_F16
    case .bfloat16: HIP_BF16
    case .q8_0: HIP_Q8_0
    case .q4_0: HIP_Q4_0
    case .q4_K: HIP_Q4_K
    case .q5_K: HIP_Q5_K
    case .q6_K: HIP_Q6_K
    }
  }
}
