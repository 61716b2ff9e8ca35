// SPDX-License-Identifier: Apache-2.0

internal import Crypto

/// What a segment is called by: its place in a text, and the text up to its end.
public struct SegmentIdentity: Sendable, Hashable {
  /// The digest of its kind.
  public let kind: Digest256
  /// The digest of the segment before it; that of the kind for the first one.
  public let parent: Digest256
  /// How many segments precede it.
  public let index: Int
  /// Its tokens: as many as a segment has, or fewer in a text's last one.
  public let tokens: [Int32]
  /// The SHA-256 of the parent's digest and the tokens.
  public let digest: Digest256

  /// Names the segment `tokens` that follows `parent`.
  public init(kind: Digest256, parent: Digest256, index: Int, tokens: [Int32]) {
    precondition(index >= 0 && index <= UInt32.max, "there is no segment \(index)")
    self.kind = kind
    self.parent = parent
    self.index = index
    self.tokens = tokens
    digest = Self.digest(parent: parent, tokens: tokens[...])
  }

  /// The first segment of a text.
  public init(firstOf kind: ContextKind, tokens: [Int32]) {
    self.init(kind: kind.digest, parent: kind.digest, index: 0, tokens: tokens)
  }

  /// The segment that follows this one.
  public func next(tokens: [Int32]) -> SegmentIdentity {
    SegmentIdentity(kind: kind, parent: digest, index: index + 1, tokens: tokens)
  }

  /// The segments of a text, the last one perhaps in part.
  public static func chain(of tokens: [Int32], kind: ContextKind) -> [SegmentIdentity] {
    var parent = kind.digest
    return stride(from: 0, to: tokens.count, by: kind.shape.tokenCapacity).enumerated().map {
      index, start in
      let part = tokens[start..<min(start + kind.shape.tokenCapacity, tokens.count)]
      let identity = SegmentIdentity(
        kind: kind.digest, parent: parent, index: index, tokens: Array(part))
      parent = identity.digest
      return identity
    }
  }

  static func digest(parent: Digest256, tokens: ArraySlice<Int32>) -> Digest256 {
    var hash = SHA256()
    hash.update(data: parent.bytes)
    #if _endian(little)
      unsafe tokens.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
    #else
      unsafe tokens.map(\.littleEndian).withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
    #endif
    return Digest256(hash)
  }
}

/// What is written of a segment; its pages must stay where they are during the call.
@safe public struct SegmentContents {
  /// Whose keys and values these are.
  public let identity: SegmentIdentity
  /// Addresses of pages, `[page * blocksPerSegment + block]`; nil: not kept.
  ///
  /// Blocks that the tokens do not reach have none.
  public let pages: [UnsafeRawPointer?]
  /// Sketches of the blocks that the tokens reach, one after the other.
  public let sketches: [UInt8]

  /// Gathers what is to be written.
  public init(identity: SegmentIdentity, pages: [UnsafeRawPointer?], sketches: [UInt8]) {
    self.identity = identity
    unsafe self.pages = unsafe pages
    self.sketches = sketches
  }

  /// Stops the program where the contents are not of the shape: the caller's mistake.
  func check(_ kind: ContextKind) {
    precondition(identity.kind == kind.digest, "the segment is of another kind")
    check(kind.shape)
  }

  func check(_ shape: SegmentShape) {
    let tokenCount = identity.tokens.count
    precondition((1...shape.tokenCapacity).contains(tokenCount), "\(tokenCount) tokens")
    let blocks = shape.blockCount(tokens: tokenCount)
    let pageCount = unsafe pages.count
    precondition(pageCount == shape.pageCount, "\(pageCount) pages")
    precondition(sketches.count == blocks * shape.sketchByteCount, "\(sketches.count) bytes")
    for place in 0..<pageCount where place % shape.blocksPerSegment >= blocks {
      precondition(unsafe pages[place] == nil, "a page of a block without tokens")
    }
  }

  /// The most bytes that it takes on a disk.
  func byteCount(_ shape: SegmentShape) -> Int {
    let kept = unsafe pages.count { unsafe $0 != nil }
    // Where pages are no multiples of disk blocks, both ends of a hole are filled.
    let slack = shape.pageByteCount % SegmentShape.alignment == 0 ? 0 : 2 * SegmentShape.alignment
    return min(shape.byteCount, shape.pageOffset + kept * (shape.pageByteCount + slack))
  }
}
