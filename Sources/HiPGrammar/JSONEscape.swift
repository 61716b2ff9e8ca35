// SPDX-License-Identifier: Apache-2.0

/// How JSON writes characters that may not stand for themselves.
enum JSONEscape {
  /// The letter after the backslash, by character.
  static let short: [UInt8: UInt8] = [
    0x08: 0x62, 0x09: 0x74, 0x0a: 0x6e, 0x0c: 0x66, 0x0d: 0x72, 0x22: 0x22, 0x5c: 0x5c,
  ]

  /// A text with its quotes.
  static func quoted(_ text: String) -> [UInt8] {
    var result: [UInt8] = [0x22]
    for byte in text.utf8 {
      if let letter = short[byte] {
        result += [0x5c, letter]
      } else if byte < 0x20 {
        result += "\\u00\(byte < 16 ? "0" : "1")\(String(byte & 15, radix: 16))".utf8
      } else {
        result.append(byte)
      }
    }
    result.append(0x22)
    return result
  }
}
