// SPDX-License-Identifier: Apache-2.0

/// The alphabet in which byte-level vocabularies write bytes: printable ones as themselves, the
/// others as characters from U+0100 on (the table of GPT-2).
enum ByteAlphabet {
  private static let printable: [ClosedRange<UInt8>] = [0x21...0x7e, 0xa1...0xac, 0xae...0xff]

  /// The byte that each character stands for.
  private static let byteOfScalar: [UInt32: UInt8] = {
    var table: [UInt32: UInt8] = [:]
    var next: UInt32 = 0x100
    for byte in UInt8.min...UInt8.max {
      if printable.contains(where: { $0.contains(byte) }) {
        table[UInt32(byte)] = byte
      } else {
        table[next] = byte
        next += 1
      }
    }
    return table
  }()

  /// The bytes that a written token stands for; nil when a character is not of the alphabet.
  static func bytes(of token: some StringProtocol) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(token.utf8.count)
    for scalar in token.unicodeScalars {
      guard let byte = byteOfScalar[scalar.value] else { return nil }
      bytes.append(byte)
    }
    return bytes
  }
}
