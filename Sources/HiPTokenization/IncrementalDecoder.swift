// SPDX-License-Identifier: Apache-2.0

/// Turns tokens into text as they come, and never emits half a character.
public struct IncrementalDecoder: Sendable {
  /// The first bytes of a character whose rest is still to come.
  private var pending: [UInt8] = []

  /// Starts at the beginning of a text.
  public init() {}

  /// The text that `bytes` complete; bytes that cannot be UTF-8 become U+FFFD.
  public mutating func append(_ bytes: [UInt8]) -> String {
    pending += bytes
    let complete = pending.count - Self.unfinishedTail(pending)
    defer { pending.removeFirst(complete) }
    return String(decoding: pending[..<complete], as: UTF8.self)
  }

  /// What is left when no more tokens come: nothing, or U+FFFD for half a character.
  public mutating func finish() -> String {
    defer { pending = [] }
    return String(decoding: pending, as: UTF8.self)
  }

  /// Number of last bytes that begin a character and could still become one.
  private static func unfinishedTail(_ bytes: [UInt8]) -> Int {
    for length in 1...3 where length <= bytes.count {
      let lead = bytes[bytes.count - length]
      if lead & 0xc0 == 0x80 { continue }
      let needed = lead >= 0xf0 && lead <= 0xf4 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 1
      guard lead < 0xf5, needed > length else { return 0 }
      if length > 1 {
        // The second byte of some characters is restricted: no overlong forms, no surrogates.
        let second = bytes[bytes.count - length + 1]
        let allowed: ClosedRange<UInt8> =
          switch lead {
          case 0xe0: 0xa0...0xbf
          case 0xed: 0x80...0x9f
          case 0xf0: 0x90...0xbf
          case 0xf4: 0x80...0x8f
          default: 0x80...0xbf
          }
        guard allowed.contains(second) else { return 0 }
      }
      return length
    }
    return 0
  }
}
