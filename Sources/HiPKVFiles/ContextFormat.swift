// SPDX-License-Identifier: Apache-2.0

internal import Crypto

/// What a saved context begins with: of which kind it is.
struct ContextHeader: Sendable {
  let kind: ContextKind
  /// Where the first segment begins.
  let byteCount: Int
  /// The SHA-256 at its end.
  let hash: Digest256

  static let magic = Array("HiPBook\n".utf8)
  static let version: UInt32 = 1
  private static let byteLimit = 1 << 17

  /// A new header, and its bytes.
  static func make(_ kind: ContextKind) -> (ContextHeader, [UInt8]) {
    let text = Array(kind.text.utf8)
    let size = (20 + text.count + Digest256.byteCount + 4095) / 4096 * 4096
    var bytes = magic
    bytes.append(version)
    bytes.append(UInt32(size))
    bytes.append(UInt32(text.count))
    bytes.append(contentsOf: text)
    bytes.pad(to: size - Digest256.byteCount)
    let hash = Digest256(of: bytes)
    bytes.append(hash)
    return (ContextHeader(kind: kind, byteCount: size, hash: hash), bytes)
  }

  /// Reads and verifies the header of a file.
  static func read(_ file: OpenFile) throws(KVFileError) -> ContextHeader {
    let path = file.path
    let fileSize = try file.byteCount()
    let start = try file.read(min(fileSize, 20), at: 0, path)
    guard start.starts(with: magic) else {
      throw KVFileError(.notAContextFile, path, "is not a saved context")
    }
    var reader = ByteReader(start, at: magic.count)
    guard let fileVersion = reader.word(), let size = reader.word().map(Int.init),
      let textCount = reader.word().map(Int.init)
    else { throw .damaged(path, "its header is too short") }
    guard fileVersion == version else {
      throw KVFileError(
        .otherVersion, path,
        "has version \(fileVersion) of this format, and \(version) is read here; save it anew")
    }
    guard size <= min(byteLimit, fileSize), size % 4096 == 0,
      textCount + 20 + Digest256.byteCount <= size
    else { throw .damaged(path, "its header is too short") }
    let bytes = try file.read(size, at: 0, path)
    let end = size - Digest256.byteCount
    let hash = Digest256(of: Array(bytes[..<end]))
    guard hash.bytes.elementsEqual(bytes[end...]),
      let text = String(validating: bytes[20..<20 + textCount], as: UTF8.self),
      let kind = ContextKind(text: text)
    else { throw .damaged(path, "its header has another SHA-256") }
    return ContextHeader(kind: kind, byteCount: size, hash: hash)
  }
}

/// What a saved context ends with: the headers' SHA-256 of all segments, all tokens, and a SHA-256 over these.
struct ContextTrailer: Sendable {
  let segmentHashes: [Digest256]
  /// All tokens of the text.
  let tokens: [Int32]
  /// Tokens at the end that no segment has.
  let tailCount: Int

  private static let magic = Array("HiPBookE".utf8)
  private static let footerByteCount = 64

  func bytes(_ header: ContextHeader) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(32 * segmentHashes.count + 4 * tokens.count + Self.footerByteCount)
    for hash in segmentHashes { bytes.append(hash) }
    for token in tokens { bytes.append(UInt32(bitPattern: token)) }
    bytes.append(contentsOf: Self.magic)
    for count in [segmentHashes.count, tokens.count, tailCount] { bytes.append(UInt64(count)) }
    bytes.append(Self.hash(of: bytes[...], header))
    return bytes
  }

  /// It stands for one header: that of another file, with the same tokens, has another hash.
  private static func hash(of bytes: ArraySlice<UInt8>, _ header: ContextHeader) -> Digest256 {
    var hash = SHA256()
    hash.update(data: header.hash.bytes)
    unsafe bytes.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
    return Digest256(hash)
  }

  /// Reads and verifies the trailer of a file.
  static func read(_ file: OpenFile, _ header: ContextHeader) throws(KVFileError) -> ContextTrailer
  {
    let path = file.path
    let shape = header.kind.shape
    let size = try file.byteCount() - header.byteCount
    guard size >= footerByteCount else { throw .damaged(path, "its end is missing") }
    let footer = try file.read(
      footerByteCount, at: header.byteCount + size - footerByteCount, path)
    var reader = ByteReader(footer, at: magic.count)
    guard footer.starts(with: magic), let segmentCount = reader.count(),
      let tokenCount = reader.count(), let tailCount = reader.count()
    else { throw .damaged(path, "its end is missing") }
    // Each is bounded by the file's size before they are multiplied.
    guard segmentCount <= size / shape.byteCount, tokenCount <= size / 4, tailCount <= tokenCount
    else { throw .damaged(path, "it is shorter than its end says") }
    let trailerCount = 32 * segmentCount + 4 * tokenCount + footerByteCount
    let kept = tokenCount - tailCount
    guard segmentCount * shape.byteCount + trailerCount == size,
      (kept + shape.tokenCapacity - 1) / shape.tokenCapacity == segmentCount
    else { throw .damaged(path, "it has another size than its end says") }
    let bytes = try file.read(trailerCount, at: header.byteCount + size - trailerCount, path)
    let end = bytes.count - Digest256.byteCount
    guard hash(of: bytes[..<end], header).bytes.elementsEqual(bytes[end...]) else {
      throw .damaged(path, "its end has another SHA-256")
    }
    reader = ByteReader(bytes)
    let hashes = (0..<segmentCount).compactMap { _ in reader.digest() }
    guard hashes.count == segmentCount, let tokens = reader.tokens(tokenCount) else {
      throw .damaged(path, "its end is too short")
    }
    return ContextTrailer(segmentHashes: hashes, tokens: tokens, tailCount: tailCount)
  }
}
