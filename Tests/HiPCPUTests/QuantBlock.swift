// SPDX-License-Identifier: Apache-2.0

import HiPTensors
import TestSupport

/// A random block of a format below 8 bits, and the numbers that it stands for, element by element
/// as the format's description has them.
struct QuantBlock {
  private(set) var bytes: [UInt8] = []
  private(set) var values: [Double] = []

  init(_ element: ElementType, _ numbers: inout SeededNumbers) {
    bytes = (0..<element.blockByteCount).map { _ in UInt8(numbers.index(below: 256)) }
    switch element {
    case .q4_0:
      let scale = setHalf(at: 0, &numbers)
      values = (0..<32).map { index in
        let byte = bytes[2 + index % 16]
        return scale * (Double(index < 16 ? byte & 15 : byte >> 4) - 8)
      }
    case .q4_1:
      let (scale, minimum) = (setHalf(at: 0, &numbers), setHalf(at: 2, &numbers))
      values = (0..<32).map { index in
        let byte = bytes[4 + index % 16]
        return scale * Double(index < 16 ? byte & 15 : byte >> 4) + minimum
      }
    case .q4_K, .q5_K:
      let (scale, minimum) = (setHalf(at: 0, &numbers), setHalf(at: 2, &numbers))
      let hasFifth = element == .q5_K
      values = (0..<256).map { index in
        let (pair, inside) = (index / 64, index % 64)
        let byte = bytes[(hasFifth ? 48 : 16) + pair * 32 + inside % 32]
        var digit = inside < 32 ? byte & 15 : byte >> 4
        if hasFifth { digit |= (bytes[16 + inside % 32] >> UInt8(index / 32) & 1) << 4 }
        let (six, least) = sixBits(index / 32)
        return scale * Double(six) * Double(digit) - minimum * Double(least)
      }
    default:
      let scale = setHalf(at: 208, &numbers)
      values = (0..<256).map { index in
        let (half, inside) = (index / 128, index % 128)
        let (row, place) = (inside / 32, inside % 32)
        let low = bytes[half * 64 + row % 2 * 32 + place]
        let top = bytes[128 + half * 32 + place] >> UInt8(2 * row) & 3
        let digit = Int(row < 2 ? low & 15 : low >> 4) | Int(top) << 4
        let own = Int8(bitPattern: bytes[192 + index / 16])
        return scale * Double(own) * Double(digit - 32)
      }
    }
  }

  /// Writes a scale of 1 to 100 / 16384, which half precision holds, and returns it.
  private mutating func setHalf(at offset: Int, _ numbers: inout SeededNumbers) -> Double {
    let value = Float(numbers.index(below: 100) + 1) / 16384
    let bits = value.bitPattern
    let half = UInt16((bits >> 23) - 112) << 10 | UInt16((bits >> 13) & 0x3ff)
    bytes[offset] = UInt8(half & 0xff)
    bytes[offset + 1] = UInt8(half >> 8)
    return Double(value)
  }

  /// The scale and the minimum of 32 elements of the K formats.
  private func sixBits(_ index: Int) -> (UInt8, UInt8) {
    let packed = Array(bytes[4..<16])
    guard index >= 4 else { return (packed[index] & 63, packed[index + 4] & 63) }
    return (
      (packed[index + 4] & 15) | ((packed[index - 4] >> 6) << 4),
      (packed[index + 4] >> 4) | ((packed[index] >> 6) << 4)
    )
  }
}
