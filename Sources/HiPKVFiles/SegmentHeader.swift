// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import Crypto

/// What a segment says about itself in front of its sketches and pages.
///
/// Its last 32 bytes are the SHA-256 of all others, so that a header is right as a whole or not at all.
struct SegmentHeader: Sendable {
  let kind: Digest256
  let parent: Digest256
  let digest: Digest256
  let index: Int
  let tokenCount: Int
  /// CRC of each block's sketches.
  let sketchSums: [UInt32]
  /// CRC of each page, by place.
  let pageSums: [UInt32]
  /// Which pages are there: a bit for each place.
  let kept: [UInt8]
  /// The SHA-256 at its end.
  let hash: Digest256
  /// The CRC that every other one of the segment goes on from.
  let seed: UInt32

  static let fixedByteCount = 144
  static let version: UInt32 = 1
  private static let magic = Array("HiPSegmt".utf8)

  /// A new header, and its bytes.
  static func make(
    _ identity: SegmentIdentity, _ shape: SegmentShape, sketchSums: [UInt32], pageSums: [UInt32],
    kept: [UInt8]
  ) -> (SegmentHeader, [UInt8]) {
    var bytes = magic
    bytes.reserveCapacity(shape.headerByteCount)
    bytes.append(version)
    bytes.append(UInt32(identity.tokens.count))
    bytes.append(UInt64(identity.index))
    for digest in [identity.kind, identity.parent, identity.digest] { bytes.append(digest) }
    for number in shape.numbers { bytes.append(UInt32(number)) }
    bytes.pad(to: fixedByteCount)
    for token in identity.tokens { bytes.append(UInt32(bitPattern: token)) }
    bytes.pad(to: fixedByteCount + 4 * shape.tokenCapacity)
    for sum in sketchSums + pageSums { bytes.append(sum) }
    bytes.append(contentsOf: kept)
    bytes.pad(to: shape.headerByteCount - Digest256.byteCount)
    let hash = Digest256(of: bytes)
    bytes.append(hash)
    let header = SegmentHeader(
      kind: identity.kind, parent: identity.parent, digest: identity.digest, index: identity.index,
      tokenCount: identity.tokens.count, sketchSums: sketchSums, pageSums: pageSums, kept: kept,
      hash: hash, seed: seed(identity.digest))
    return (header, bytes)
  }

  /// Reads and verifies a header.
  /// - Parameters:
  ///   - kind: of which kind it must be, by its digest.
  ///   - file: a file in which at least the segment's bytes follow `base`.
  static func read(
    _ file: OpenFile, at base: Int, kind: Digest256, _ shape: SegmentShape, _ place: String
  ) throws(KVFileError) -> SegmentHeader {
    let bytes = try file.read(shape.headerByteCount, at: base, place)
    guard bytes.starts(with: magic) else { throw .damaged(place, "no segment begins here") }
    var reader = ByteReader(bytes, at: magic.count)
    guard reader.word() == version else {
      throw KVFileError(
        .otherVersion, place, "is of another version of this format; it must be written anew")
    }
    let end = bytes.count - Digest256.byteCount
    let hash = Digest256(of: Array(bytes[..<end]))
    guard hash.bytes.elementsEqual(bytes[end...]) else {
      throw .damaged(place, "its header has another SHA-256")
    }
    guard let tokenCount = reader.word().map(Int.init), let index = reader.count(),
      let ownKind = reader.digest(), let parent = reader.digest(), let digest = reader.digest()
    else { throw .damaged(place, "its header is too short") }
    guard ownKind == kind else {
      throw KVFileError(.otherKind, place, "belongs to another model, format or policy")
    }
    let numbers = shape.numbers.map { _ in reader.word().map(Int.init) ?? -1 }
    guard numbers == shape.numbers, index <= UInt32.max,
      (1...shape.tokenCapacity).contains(tokenCount),
      let tokens = tokens(in: bytes, tokenCount),
      SegmentIdentity.digest(parent: parent, tokens: tokens[...]) == digest
    else { throw .damaged(place, "its header contradicts itself") }
    reader = ByteReader(bytes, at: fixedByteCount + 4 * shape.tokenCapacity)
    let sketchSums = (0..<shape.blocksPerSegment).compactMap { _ in reader.word() }
    let pageSums = (0..<shape.pageCount).compactMap { _ in reader.word() }
    guard let kept = reader.read((shape.pageCount + 7) / 8),
      sketchSums.count == shape.blocksPerSegment, pageSums.count == shape.pageCount
    else { throw .damaged(place, "its header is too short") }
    return SegmentHeader(
      kind: ownKind, parent: parent, digest: digest, index: index, tokenCount: tokenCount,
      sketchSums: sketchSums, pageSums: pageSums, kept: Array(kept), hash: hash,
      seed: seed(digest))
  }

  static func tokens(in bytes: [UInt8], _ count: Int) -> [Int32]? {
    var reader = ByteReader(bytes, at: fixedByteCount)
    return reader.tokens(count)
  }

  /// The tokens that an unverified header claims, for lists.
  static func claimedTokenCount(_ bytes: [UInt8]) -> Int? {
    guard bytes.starts(with: magic) else { return nil }
    var reader = ByteReader(bytes, at: magic.count + 4)
    return reader.word().map(Int.init)
  }

  func isKept(_ place: Int) -> Bool { kept[place / 8] >> UInt8(place % 8) & 1 == 1 }

  // MARK: Sums

  /// The place of a block's sketches, apart from those of all pages.
  static func sketchPlace(_ block: Int) -> UInt32 { 1 << 31 | UInt32(block) }

  static func seed(_ digest: Digest256) -> UInt32 {
    unsafe digest.bytes.withUnsafeBytes { bytes in
      unsafe ihp_crc32c(0, bytes.baseAddress, bytes.count)
    }
  }

  /// The CRC of bytes in one place of one segment: the same bytes elsewhere have another one.
  @safe static func sum(
    _ bytes: UnsafeRawPointer, _ count: Int, seed: UInt32, place: UInt32
  ) -> UInt32 {
    var place = place.littleEndian
    let start = unsafe ihp_crc32c(seed, &place, 4)
    return unsafe ihp_crc32c(start, bytes, count)
  }
}
