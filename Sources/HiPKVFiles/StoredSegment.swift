// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A segment that lies in a file, its header verified.
///
/// It keeps the CRCs of its pages in memory, and nothing else. All threads may read it at once.
public final class StoredSegment: Sendable {
  /// The measures of its parts.
  public let shape: SegmentShape
  /// Its last use that the folder was told of, in seconds since 1970.
  let lastTouch = Atomic(0)

  let header: SegmentHeader
  let file: SegmentFile
  let lease: Lease?
  private let base: Int
  private let number: Int?

  /// - Parameters:
  ///   - number: its number for messages, where the file has several.
  ///   - lease: what ends when the last reference to this segment goes.
  init(
    _ header: SegmentHeader, _ shape: SegmentShape, in file: SegmentFile, at base: Int = 0,
    number: Int? = nil, lease: Lease? = nil
  ) {
    self.header = header
    self.shape = shape
    self.file = file
    self.base = base
    self.number = number
    self.lease = lease
  }

  /// The digest of its text up to its end.
  public var digest: Digest256 { header.digest }
  /// The digest of the segment before it.
  public var parent: Digest256 { header.parent }
  /// The digest of its kind.
  public var kind: Digest256 { header.kind }
  /// How many segments precede it.
  public var index: Int { header.index }
  /// How many tokens it has.
  public var tokenCount: Int { header.tokenCount }
  /// Blocks that its tokens begin.
  public var blockCount: Int { shape.blockCount(tokens: tokenCount) }
  /// Where it lies, for messages.
  public var location: String { Self.location(file.path, number) }

  static func location(_ path: String, _ number: Int?) -> String {
    number.map { "\(path), segment \($0)" } ?? path
  }

  /// Whether a page was kept.
  public func hasPage(_ page: Int, block: Int) -> Bool {
    header.isKept(shape.place(page: page, block: block))
  }

  /// Its tokens, read from the file.
  public func tokens() throws(KVFileError) -> [Int32] {
    let location = location
    let bytes = try open().read(shape.headerByteCount, at: base, location)
    let end = bytes.count - Digest256.byteCount
    guard Digest256(of: Array(bytes[..<end])) == header.hash,
      let tokens = SegmentHeader.tokens(in: bytes, tokenCount)
    else { throw .damaged(location, "its header is not what it was") }
    return tokens
  }

  /// Reads the sketches of all its blocks.
  /// - Parameter buffer: takes `blockCount * sketchByteCount` bytes.
  @safe public func readSketches(
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(KVFileError) {
    let size = shape.sketchByteCount
    precondition(buffer.count == blockCount * size, "room for \(buffer.count) bytes")
    guard let start = buffer.baseAddress, size > 0 else { return }
    let file = try open()
    try file.read(into: buffer, at: sketchPlace, location)
    for block in 0..<blockCount {
      let sum = unsafe SegmentHeader.sum(
        start + block * size, size, seed: header.seed, place: SegmentHeader.sketchPlace(block))
      guard sum == header.sketchSums[block] else {
        throw .damaged(location, "the sketches of block \(block) have another CRC")
      }
    }
    try checkLease()
  }

  /// Reads one page.
  /// - Parameter destination: takes `pageByteCount` bytes; its contents are of no use when this throws.
  @safe public func readPage(
    _ page: Int, block: Int, into destination: UnsafeMutableRawPointer
  ) throws(KVFileError) {
    let place = shape.place(page: page, block: block)
    try checkKept(place)
    unsafe try open().read(
      into: UnsafeMutableRawBufferPointer(start: destination, count: shape.pageByteCount),
      at: offset(place), location)
    unsafe try check(destination, place)
    try checkLease()
  }

  /// Reads everything and reports the first thing that is not what was written.
  public func verify() throws(KVFileError) {
    _ = try tokens()
    let size = max(shape.pageByteCount, shape.sketchByteCount * blockCount)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
    defer { unsafe buffer.deallocate() }
    unsafe try readSketches(
      into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<(shape.sketchByteCount * blockCount)])
    )
    guard let start = buffer.baseAddress else { return }
    for page in 0..<shape.pagesPerBlock {
      for block in 0..<blockCount where hasPage(page, block: block) {
        try readPage(page, block: block, into: start)
      }
    }
  }

  // MARK: Parts of reading

  var sketchPlace: Int { base + shape.sketchOffset }
  func offset(_ place: Int) -> Int { base + shape.pageOffset + place * shape.pageByteCount }

  func open() throws(KVFileError) -> OpenFile {
    try checkLease()
    return try file.open { opened throws(KVFileError) in
      // The same header has the same CRCs; whether the pages are right is seen when they are read.
      let end = base + shape.headerByteCount
      let there = try opened.read(
        Digest256.byteCount, at: end - Digest256.byteCount, location)
      guard there == header.hash.bytes else {
        throw KVFileError(
          .missing, location, "was replaced meanwhile; its tokens must be prefilled again")
      }
    }
  }

  func checkLease() throws(KVFileError) {
    if let lease, lease.hasEnded { throw KVFileError(.missing, location, "was given up") }
  }

  func checkKept(_ place: Int) throws(KVFileError) {
    guard header.isKept(place) else {
      throw KVFileError(.absentPage, location, "\(name(place)) was not kept")
    }
  }

  func check(_ bytes: UnsafeRawPointer, _ place: Int) throws(KVFileError) {
    let sum = SegmentHeader.sum(
      bytes, shape.pageByteCount, seed: header.seed, place: UInt32(place))
    guard sum == header.pageSums[place] else {
      throw .damaged(location, "\(name(place)) has another CRC")
    }
  }

  private func name(_ place: Int) -> String {
    "page \(place / shape.blocksPerSegment) of block \(place % shape.blocksPerSegment)"
  }
}

/// Something that is held as long as a segment is in use.
final class Lease: Sendable {
  private let ended = Atomic(false)
  private let release: @Sendable () -> Void

  init(_ release: @escaping @Sendable () -> Void) { self.release = release }

  deinit { end() }

  var hasEnded: Bool { ended.load(ordering: .acquiring) }

  /// Gives it up, once.
  func end() {
    if !ended.exchange(true, ordering: .acquiringAndReleasing) { release() }
  }
}
