// SPDX-License-Identifier: Apache-2.0

internal import HiPTensors

extension ElementType {
  /// What kernels call it; nil: they do not have it.
  var kernelName: String? {
    switch self {
    case .float32: "float"
    case .float16: "Half"
    case .bfloat16: "BFloat16"
    default: nil
    }
  }
}
