// SPDX-License-Identifier: Apache-2.0

/// Finds tokens by their bytes.
///
/// The hash of two pieces together follows from those of each, so that a pair is looked up without being joined.
struct PieceTable: Sendable {
  private struct Slot {
    var hash: UInt64 = 0
    var token: TokenID = -1
    var length: Int32 = 0
  }

  private var slots: [Slot]
  private let mask: Int
  private(set) var count = 0
  /// The hash of each token, and what a piece before it is multiplied by; 0 for tokens that are not in the table.
  private var hashes: [UInt64]
  private var factors: [UInt64]
  private var lengths: [Int32]

  private static let base: UInt64 = 0x9e37_79b9_7f4a_7c15

  init(capacity: Int) {
    var size = 16
    while size < 2 * capacity { size *= 2 }
    slots = .init(repeating: Slot(), count: size)
    mask = size - 1
    hashes = .init(repeating: 0, count: capacity)
    factors = .init(repeating: 0, count: capacity)
    lengths = .init(repeating: 0, count: capacity)
  }

  private static func hash(_ bytes: some Sequence<UInt8>) -> (hash: UInt64, factor: UInt64) {
    var hash: UInt64 = 0
    var factor: UInt64 = 1
    for byte in bytes {
      hash = hash &* base &+ UInt64(byte) &+ 1
      factor = factor &* base
    }
    return (hash, factor)
  }

  private func place(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: hash ^ hash >> 29) & mask }

  /// Of equal pieces the first counts.
  mutating func insert(_ bytes: [UInt8], _ token: TokenID) {
    let (hash, factor) = Self.hash(bytes)
    hashes[Int(token)] = hash
    factors[Int(token)] = factor
    lengths[Int(token)] = Int32(bytes.count)
    var place = place(hash)
    while slots[place].token >= 0 {
      if slots[place].hash == hash, slots[place].length == bytes.count { return }
      place = (place + 1) & mask
    }
    slots[place] = Slot(hash: hash, token: token, length: Int32(bytes.count))
    count += 1
  }

  /// 64 bits of hash and the length tell pieces apart; whoever must be sure compares the bytes.
  private func candidate(_ hash: UInt64, _ length: Int) -> TokenID? {
    var place = place(hash)
    while slots[place].token >= 0 {
      if slots[place].hash == hash, slots[place].length == length { return slots[place].token }
      place = (place + 1) & mask
    }
    return nil
  }

  func token(of bytes: ArraySlice<UInt8>) -> TokenID? {
    candidate(Self.hash(bytes).hash, bytes.count)
  }

  /// The token that two others make up.
  func token(joining left: TokenID, _ right: TokenID, _ tokens: [[UInt8]]) -> TokenID? {
    let hash = hashes[Int(left)] &* factors[Int(right)] &+ hashes[Int(right)]
    let length = Int(lengths[Int(left)] + lengths[Int(right)])
    guard let found = candidate(hash, length) else { return nil }
    let (bytes, first) = (tokens[Int(found)], tokens[Int(left)])
    return bytes.starts(with: first) && bytes[first.count...].elementsEqual(tokens[Int(right)])
      ? found : nil
  }

  /// Calls `body` for every piece that stands at a place of a text.
  func forEachPiece(
    in text: [UInt8], at start: Int, longest: Int, _ body: (TokenID, _ length: Int) -> Void
  ) {
    var hash: UInt64 = 0
    for end in start..<min(text.count, start + longest) {
      hash = hash &* Self.base &+ UInt64(text[end]) &+ 1
      if let token = candidate(hash, end - start + 1) { body(token, end - start + 1) }
    }
  }
}
