// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

extension SegmentContents {
  /// Pages that are written by one call: so few that they are still in the cache after their CRC was computed.
  private static let runLimit = 64

  /// Writes everything at `base`, the header last; what was there before shows through where no page is kept.
  func write(
    to file: OpenFile, at base: Int, _ shape: SegmentShape, _ place: String
  ) throws(KVFileError) -> SegmentHeader {
    let seed = SegmentHeader.seed(identity.digest)
    let pageSums = try writePages(to: file, at: base, shape, seed, place)
    let blocks = shape.blockCount(tokens: identity.tokens.count)
    let sketchSums = unsafe sketches.withUnsafeBytes { bytes in
      (0..<shape.blocksPerSegment).map { block -> UInt32 in
        guard block < blocks, let start = bytes.baseAddress else { return 0 }
        return unsafe SegmentHeader.sum(
          start + block * shape.sketchByteCount, shape.sketchByteCount, seed: seed,
          place: SegmentHeader.sketchPlace(block))
      }
    }
    if !sketches.isEmpty { try file.write(sketches, at: base + shape.sketchOffset, place) }
    var kept = [UInt8](repeating: 0, count: (shape.pageCount + 7) / 8)
    for index in unsafe pages.indices where unsafe pages[index] != nil {
      kept[index / 8] |= 1 << UInt8(index % 8)
    }
    let (header, bytes) = SegmentHeader.make(
      identity, shape, sketchSums: sketchSums, pageSums: pageSums, kept: kept)
    try file.write(bytes, at: base, place)
    return header
  }

  /// Writes pages, those side by side in one call, and returns the CRC of each.
  private func writePages(
    to file: OpenFile, at base: Int, _ shape: SegmentShape, _ seed: UInt32, _ place: String
  ) throws(KVFileError) -> [UInt32] {
    var sums = [UInt32](repeating: 0, count: shape.pageCount)
    var run: [iovec] = unsafe []
    var start = 0
    unsafe run.reserveCapacity(Self.runLimit)
    for index in 0...shape.pageCount {
      let page = unsafe index < shape.pageCount ? pages[index] : nil
      if unsafe !run.isEmpty && (page == nil || run.count == Self.runLimit) {
        let offset = base + shape.pageOffset + start * shape.pageByteCount
        try file.write(run, at: offset, place)
        unsafe run.removeAll(keepingCapacity: true)
      }
      guard let page = unsafe page else { continue }
      sums[index] = SegmentHeader.sum(
        page, shape.pageByteCount, seed: seed, place: UInt32(index))
      if unsafe run.isEmpty { start = index }
      unsafe run.append(
        iovec(
          iov_base: UnsafeMutableRawPointer(mutating: page), iov_len: shape.pageByteCount))
    }
    return sums
  }
}
