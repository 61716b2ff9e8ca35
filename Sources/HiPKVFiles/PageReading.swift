// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A page that is to be read, and where to.
@safe public struct PageRead {
  /// Its number.
  public let page: Int
  /// Its block in the segment.
  public let block: Int
  /// Takes `pageByteCount` bytes.
  public let destination: UnsafeMutableRawPointer

  /// Asks for a page.
  public init(page: Int, block: Int, destination: UnsafeMutableRawPointer) {
    self.page = page
    self.block = block
    unsafe self.destination = unsafe destination
  }
}

extension StoredSegment {
  /// The most pages that one call of the system reads: they are still in the cache when their CRC is computed.
  private static let runLimit = 64

  /// Lets the system begin to read pages that are about to be read: many at once keep a disk busy.
  public func prefetch(_ reads: [PageRead]) {
    guard let file = try? open() else { return }
    for read in reads {
      file.prefetch(
        shape.pageByteCount, at: offset(shape.place(page: read.page, block: read.block)))
    }
  }

  /// Lets the system begin to read the sketches.
  public func prefetchSketches() {
    guard let file = try? open() else { return }
    file.prefetch(blockCount * shape.sketchByteCount, at: sketchPlace)
  }

  /// Reads pages, those side by side in the file by one call.
  ///
  /// When this throws, none of the destinations is of use.
  public func readPages(_ reads: [PageRead]) throws(KVFileError) {
    guard !reads.isEmpty else { return }
    let file = try open()
    let order = reads.map { shape.place(page: $0.page, block: $0.block) }.enumerated()
      .sorted { $0.element < $1.element }
    for item in order { try checkKept(item.element) }
    var start = 0
    while start < order.count {
      var end = start + 1
      while end < order.count, end - start < Self.runLimit,
        order[end].element == order[end - 1].element + 1
      {
        end += 1
      }
      let run = order[start..<end]
      let vectors = unsafe run.map { item in
        unsafe iovec(iov_base: reads[item.offset].destination, iov_len: shape.pageByteCount)
      }
      try file.read(vectors, at: offset(order[start].element), location)
      for item in run { unsafe try check(reads[item.offset].destination, item.element) }
      start = end
    }
    try checkLease()
  }
}
