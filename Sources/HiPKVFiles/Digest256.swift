// SPDX-License-Identifier: Apache-2.0

internal import Crypto

/// The SHA-256 of some bytes.
public struct Digest256: Sendable, Hashable, CustomStringConvertible {
  /// Its 32 bytes, the first in the lowest bits of the first word.
  private let words: [4 of UInt64]

  /// How many bytes it has.
  static let byteCount = 32

  /// The digest of bytes.
  public init(of bytes: [UInt8]) {
    var hash = SHA256()
    unsafe bytes.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
    self.init(hash)
  }

  init(_ hash: SHA256) { self.init(bytes: Array(hash.finalize())) }

  /// Takes 32 bytes as they are.
  init(bytes: [UInt8]) {
    precondition(bytes.count == Self.byteCount)
    words = [4 of UInt64] { word in
      (0..<8).reduce(0) { sum, byte in sum | UInt64(bytes[8 * word + byte]) << (8 * UInt64(byte)) }
    }
  }

  /// Reads 64 hexadecimal digits; nil when it is anything else.
  public init?(hex: String) {
    let digits = hex.utf8.compactMap { byte in
      Character(UnicodeScalar(byte)).hexDigitValue.map(UInt8.init)
    }
    guard hex.utf8.count == 64, digits.count == 64 else { return nil }
    self.init(bytes: (0..<32).map { digits[2 * $0] << 4 | digits[2 * $0 + 1] })
  }

  /// Its bytes.
  var bytes: [UInt8] {
    (0..<32).map { UInt8(truncatingIfNeeded: words[$0 / 8] >> (8 * UInt64($0 % 8))) }
  }

  /// 64 hexadecimal digits.
  public var hex: String {
    let digits = Array("0123456789abcdef".utf8)
    return String(
      decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }

  /// Its hexadecimal digits.
  public var description: String { hex }

  /// Whether all bytes are the same.
  public static func == (left: Digest256, right: Digest256) -> Bool {
    (0..<4).allSatisfy { left.words[$0] == right.words[$0] }
  }

  /// Feeds its bytes, which are as good as a hash.
  public func hash(into hasher: inout Hasher) { hasher.combine(words[0]) }
}
