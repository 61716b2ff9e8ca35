// SPDX-License-Identifier: Apache-2.0

/// How the elements of a tensor are stored.
public enum ElementType: String, Sendable, Hashable, CaseIterable, Codable {
  case float32 = "F32"
  case float16 = "F16"
  case bfloat16 = "BF16"
  /// Blocks of 32 signed bytes behind one half-precision scale.
  case q8_0 = "Q8_0"

  /// Elements that share one block.
  public var blockSize: Int { self == .q8_0 ? 32 : 1 }

  /// Bytes of one block.
  public var blockByteCount: Int {
    switch self {
    case .float32: 4
    case .float16, .bfloat16: 2
    case .q8_0: 34
    }
  }

  /// Bytes of `count` elements, which must fill whole blocks.
  public func byteCount(of count: Int) -> Int {
    precondition(count % blockSize == 0, "\(count) elements do not fill blocks of \(blockSize)")
    return count / blockSize * blockByteCount
  }
}
