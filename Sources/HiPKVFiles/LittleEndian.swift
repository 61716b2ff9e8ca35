// SPDX-License-Identifier: Apache-2.0

/// The bytes of numbers in the order of the files, whatever the processor's is.
extension [UInt8] {
  mutating func append(_ value: UInt32) {
    for shift in stride(from: UInt32(0), to: 32, by: 8) {
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  mutating func append(_ value: UInt64) {
    append(UInt32(truncatingIfNeeded: value))
    append(UInt32(truncatingIfNeeded: value >> 32))
  }

  mutating func append(_ digest: Digest256) { append(contentsOf: digest.bytes) }

  /// Fills up with zeros.
  mutating func pad(to count: Int) {
    append(contentsOf: repeatElement(0, count: Swift.max(0, count - self.count)))
  }
}

/// Reads numbers one after the other; nil behind the end.
struct ByteReader {
  private let bytes: [UInt8]
  private(set) var position: Int

  init(_ bytes: [UInt8], at position: Int = 0) {
    self.bytes = bytes
    self.position = position
  }

  mutating func word() -> UInt32? {
    guard bytes.count - position >= 4 else { return nil }
    let low = UInt32(bytes[position]) | UInt32(bytes[position + 1]) << 8
    let high = UInt32(bytes[position + 2]) | UInt32(bytes[position + 3]) << 8
    position += 4
    return low | high << 16
  }

  /// A count of 64 bits; nil also when it is larger than any count.
  mutating func count() -> Int? {
    guard let low = word(), let high = word() else { return nil }
    return Int(exactly: UInt64(high) << 32 | UInt64(low))
  }

  mutating func digest() -> Digest256? {
    read(Digest256.byteCount).map { Digest256(bytes: Array($0)) }
  }

  mutating func read(_ count: Int) -> ArraySlice<UInt8>? {
    guard count >= 0, position <= bytes.count, bytes.count - position >= count else { return nil }
    defer { position += count }
    return bytes[position..<position + count]
  }

  /// Tokens, of four bytes each.
  mutating func tokens(_ count: Int) -> [Int32]? {
    guard count >= 0, count <= (bytes.count - position) / 4 else { return nil }
    var tokens: [Int32] = []
    tokens.reserveCapacity(count)
    while tokens.count < count, let word = word() { tokens.append(Int32(bitPattern: word)) }
    return tokens
  }
}
