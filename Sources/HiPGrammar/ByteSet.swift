// SPDX-License-Identifier: Apache-2.0

/// A set of bytes.
struct ByteSet: Hashable, Sendable {
  private var words = SIMD4<UInt64>()

  static let digits = ByteSet(0x30...0x39)
  static let hexDigits = ByteSet("0123456789abcdefABCDEF".utf8)

  init(_ bytes: some Sequence<UInt8>) {
    for byte in bytes { insert(byte) }
  }

  init(_ byte: UInt8) { insert(byte) }

  var isEmpty: Bool { words == SIMD4() }

  func contains(_ byte: UInt8) -> Bool { words[Int(byte >> 6)] >> UInt64(byte & 63) & 1 != 0 }

  mutating func insert(_ byte: UInt8) { words[Int(byte >> 6)] |= 1 << UInt64(byte & 63) }
}

/// The classes of bytes that no set of a grammar tells apart: they make transition tables short.
struct ByteClasses: Sendable {
  /// The class of each byte.
  private(set) var classOfByte = [UInt8](repeating: 0, count: 256)
  /// One byte of each class.
  private(set) var representatives: [UInt8] = [0]

  init(_ sets: [ByteSet]) {
    for set in sets where representatives.count < 256 { divide(by: set) }
  }

  private mutating func divide(by set: ByteSet) {
    // The class of the members of a class that are in the set, where others are not.
    var inside = [UInt8?](repeating: nil, count: 256)
    for byte in UInt8.min...UInt8.max {
      let old = classOfByte[Int(byte)]
      let isInside = set.contains(byte)
      guard isInside != set.contains(representatives[Int(old)]) else { continue }
      if let new = inside[Int(old)] {
        classOfByte[Int(byte)] = new
      } else {
        let new = UInt8(representatives.count)
        inside[Int(old)] = new
        representatives.append(byte)
        classOfByte[Int(byte)] = new
      }
    }
  }
}
