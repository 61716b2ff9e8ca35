// SPDX-License-Identifier: Apache-2.0

/// How the elements of a tensor are stored.
///
/// A format takes a case and a row of `layout` here, a row of `IHP_QUANT_FORMATS` with its function in `quants.h`, and
/// its case in `weights.cuh`; `Scripts/make-quant-tables.py` makes its golden vectors.
public enum ElementType: String, Sendable, Hashable, CaseIterable, Codable {
  case float64 = "F64"
  case float32 = "F32"
  case float16 = "F16"
  case bfloat16 = "BF16"
  /// Blocks of 32 signed bytes behind one half-precision scale.
  case q8_0 = "Q8_0"
  case q8_1 = "Q8_1"
  /// Blocks of 32 elements in 4 or 5 bits behind one half-precision scale (`_0`), or a scale and a minimum (`_1`).
  case q4_0 = "Q4_0"
  case q4_1 = "Q4_1"
  case q5_0 = "Q5_0"
  case q5_1 = "Q5_1"
  /// Blocks of 256 elements in 2 to 6 bits, with scales of 4 to 8 bits for every 32 or 16.
  case q2_K = "Q2_K"
  case q3_K = "Q3_K"
  case q4_K = "Q4_K"
  case q5_K = "Q5_K"
  case q6_K = "Q6_K"
  /// Digits of 4 bits that stand for the values of a code book, in blocks of 32 and of 256.
  case iq4_NL = "IQ4_NL"
  case iq4_XS = "IQ4_XS"
  /// The same with 4-bit floating point for a code book, and a power of two for a scale (OCP Microscaling 1.0).
  case mxfp4 = "MXFP4"
  /// Eight or four elements at a time are a point of a grid, with signs.
  case iq3_S = "IQ3_S"
  case iq3_XXS = "IQ3_XXS"
  case iq2_S = "IQ2_S"
  case iq2_XS = "IQ2_XS"
  case iq2_XXS = "IQ2_XXS"
  case iq1_M = "IQ1_M"
  case iq1_S = "IQ1_S"
  /// Minus one, zero and one, in five to a byte and in two bits.
  case tq1_0 = "TQ1_0"
  case tq2_0 = "TQ2_0"

  /// What a row of elements is made of.
  struct Layout {
    /// Elements of a block, and its bytes.
    let size, byteCount: Int
    /// The type's number in GGUF files.
    let number: UInt32

    init(_ number: UInt32, _ size: Int, _ byteCount: Int) {
      self.number = number
      self.size = size
      self.byteCount = byteCount
    }
  }

  var layout: Layout {
    switch self {
    case .float32: Layout(0, 1, 4)
    case .float16: Layout(1, 1, 2)
    case .q4_0: Layout(2, 32, 18)
    case .q4_1: Layout(3, 32, 20)
    case .q5_0: Layout(6, 32, 22)
    case .q5_1: Layout(7, 32, 24)
    case .q8_0: Layout(8, 32, 34)
    case .q8_1: Layout(9, 32, 36)
    case .q2_K: Layout(10, 256, 84)
    case .q3_K: Layout(11, 256, 110)
    case .q4_K: Layout(12, 256, 144)
    case .q5_K: Layout(13, 256, 176)
    case .q6_K: Layout(14, 256, 210)
    case .iq2_XXS: Layout(16, 256, 66)
    case .iq2_XS: Layout(17, 256, 74)
    case .iq3_XXS: Layout(18, 256, 98)
    case .iq1_S: Layout(19, 256, 50)
    case .iq4_NL: Layout(20, 32, 18)
    case .iq3_S: Layout(21, 256, 110)
    case .iq2_S: Layout(22, 256, 82)
    case .iq4_XS: Layout(23, 256, 136)
    case .float64: Layout(28, 1, 8)
    case .iq1_M: Layout(29, 256, 56)
    case .bfloat16: Layout(30, 1, 2)
    case .tq1_0: Layout(34, 256, 54)
    case .tq2_0: Layout(35, 256, 66)
    case .mxfp4: Layout(39, 32, 17)
    }
  }

  private static let byNumber = Dictionary(
    uniqueKeysWithValues: allCases.map { ($0.layout.number, $0) })

  /// The type of that number in GGUF files; nil where it is not known here.
  public init?(ggufNumber: UInt32) {
    guard let element = Self.byNumber[ggufNumber] else { return nil }
    self = element
  }

  /// The type's number in GGUF files.
  public var ggufNumber: UInt32 { layout.number }

  /// Elements that share one block.
  public var blockSize: Int { layout.size }

  /// Whether elements take less than 8 bits each.
  public var isBelowEightBits: Bool { layout.byteCount < layout.size }

  /// Bytes of one block.
  public var blockByteCount: Int { layout.byteCount }

  /// Bytes of `count` elements, which must fill whole blocks.
  public func byteCount(of count: Int) -> Int {
    precondition(count % blockSize == 0, "\(count) elements do not fill blocks of \(blockSize)")
    return count / blockSize * blockByteCount
  }
}
