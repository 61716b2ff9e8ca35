// SPDX-License-Identifier: Apache-2.0

/// The measures of a segment, and where its parts lie in a file.
///
/// Three areas follow one another, each at a multiple of 4,096 bytes: the header, the sketches of all blocks, and
/// the pages, of which those of one number lie side by side, block after block.
public struct SegmentShape: Sendable, Hashable {
  /// Tokens in a block.
  public let blockSize: Int
  /// Blocks in a segment.
  public let blocksPerSegment: Int
  /// Pages of a block: keys and values of every KV head of every layer.
  public let pagesPerBlock: Int
  /// Bytes of a page.
  public let pageByteCount: Int
  /// Bytes of one block's sketches, of all layers; may be 0.
  public let sketchByteCount: Int

  /// What areas are aligned to.
  static let alignment = 4096

  /// Creates a shape from measures that are known to be sane.
  public init(
    blockSize: Int, blocksPerSegment: Int, pagesPerBlock: Int, pageByteCount: Int,
    sketchByteCount: Int
  ) {
    let numbers = [blockSize, blocksPerSegment, pagesPerBlock, pageByteCount, sketchByteCount]
    precondition(Self.areSane(numbers), "no segment has the measures \(numbers)")
    self.blockSize = blockSize
    self.blocksPerSegment = blocksPerSegment
    self.pagesPerBlock = pagesPerBlock
    self.pageByteCount = pageByteCount
    self.sketchByteCount = sketchByteCount
  }

  /// Reads measures that come from a file; nil when they would overflow something.
  init?(numbers: [Int]) {
    guard numbers.count == 5, Self.areSane(numbers) else { return nil }
    self.init(
      blockSize: numbers[0], blocksPerSegment: numbers[1], pagesPerBlock: numbers[2],
      pageByteCount: numbers[3], sketchByteCount: numbers[4])
  }

  /// Its measures, in the order in which files have them.
  var numbers: [Int] {
    [blockSize, blocksPerSegment, pagesPerBlock, pageByteCount, sketchByteCount]
  }

  // With these a segment has fewer than 2^48 bytes, and a page's place fits 31 bits.
  private static func areSane(_ numbers: [Int]) -> Bool {
    let limits = [1...1 << 16, 1...1 << 12, 1...1 << 16, 1...1 << 26, 0...1 << 26]
    return zip(numbers, limits).allSatisfy { $1.contains($0) }
      && numbers[0] * numbers[1] <= 1 << 22 && numbers[1] * numbers[2] <= 1 << 22
  }

  private static func aligned(_ count: Int) -> Int {
    (count + alignment - 1) / alignment * alignment
  }

  /// The most tokens that a segment has.
  public var tokenCapacity: Int { blockSize * blocksPerSegment }

  /// Pages of a whole segment.
  public var pageCount: Int { pagesPerBlock * blocksPerSegment }

  /// Blocks that so many tokens begin.
  public func blockCount(tokens: Int) -> Int { (tokens + blockSize - 1) / blockSize }

  /// The first number of bytes that holds the header's fields, tokens and tables.
  var headerByteCount: Int {
    Self.aligned(
      SegmentHeader.fixedByteCount + 4 * tokenCapacity + 4 * blocksPerSegment + 4 * pageCount
        + (pageCount + 7) / 8 + Digest256.byteCount)
  }

  /// Where the sketches begin.
  public var sketchOffset: Int { headerByteCount }

  /// Where the pages begin.
  public var pageOffset: Int { sketchOffset + Self.aligned(sketchByteCount * blocksPerSegment) }

  /// Where a page lies.
  public func offset(page: Int, block: Int) -> Int {
    pageOffset + place(page: page, block: block) * pageByteCount
  }

  /// The bytes of a whole segment.
  public var byteCount: Int { Self.aligned(pageOffset + pageCount * pageByteCount) }

  /// A page's place among all pages.
  func place(page: Int, block: Int) -> Int {
    precondition((0..<pagesPerBlock).contains(page) && (0..<blocksPerSegment).contains(block))
    return page * blocksPerSegment + block
  }
}
