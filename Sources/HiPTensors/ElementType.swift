// SPDX-License-Identifier: Apache-2.0

/// How the elements of a tensor are stored.
public enum ElementType: String, Sendable, Hashable, CaseIterable, Codable {
  case float32 = "F32"
  case float16 = "F16"
  case bfloat16 = "BF16"
  /// Blocks of 32 signed bytes behind one half-precision scale.
  case q8_0 = "Q8_0"
  /// Blocks of 32 elements in 4 bits behind one half-precision scale.
  case q4_0 = "Q4_0"
  /// Blocks of 32 elements in 4 bits behind a half-precision scale and minimum.
  case q4_1 = "Q4_1"
  /// Blocks of 256 elements in 4, 5 and 6 bits, with scales of 6 and 8 bits for every 32 or 16.
  case q4_K = "Q4_K"
  case q5_K = "Q5_K"
  case q6_K = "Q6_K"

  /// Elements that share one block.
  public var blockSize: Int {
    switch self {
    case .float32, .float16, .bfloat16: 1
    case .q8_0, .q4_0, .q4_1: 32
    case .q4_K, .q5_K, .q6_K: 256
    }
  }

  /// Whether elements are digits of less than 8 bits.
  public var isBelowEightBits: Bool {
    switch self {
    case .float32, .float16, .bfloat16, .q8_0: false
    case .q4_0, .q4_1, .q4_K, .q5_K, .q6_K: true
    }
  }

  /// Bytes of one block.
  public var blockByteCount: Int {
    switch self {
    case .float32: 4
    case .float16, .bfloat16: 2
    case .q8_0: 34
    case .q4_0: 18
    case .q4_1: 20
    case .q4_K: 144
    case .q5_K: 176
    case .q6_K: 210
    }
  }

  /// Bytes of `count` elements, which must fill whole blocks.
  public func byteCount(of count: Int) -> Int {
    precondition(count % blockSize == 0, "\(count) elements do not fill blocks of \(blockSize)")
    return count / blockSize * blockByteCount
  }
}
