// SPDX-License-Identifier: Apache-2.0

internal import HiPModelFiles
public import HiPTensors

/// What a model's matrices can be rounded to while it is loaded.
public enum WeightFormat: String, Sendable, Hashable, CaseIterable {
  case q8_0, q4_K = "q4_k"

  /// The element type.
  public var element: ElementType {
    switch self {
    case .q8_0: .q8_0
    case .q4_K: .q4_K
    }
  }

  /// What a matrix becomes: nothing that takes more than it did, and blocks of bytes where the rows do not fill
  /// super-blocks.
  func element(of weight: Weight) -> ElementType {
    func fits(_ type: ElementType) -> Bool {
      weight.columns % type.blockSize == 0
        && type.blockByteCount * weight.element.blockSize < weight.element.blockByteCount
          * type.blockSize
    }
    return [element, .q8_0].first { fits($0) } ?? weight.element
  }
}
