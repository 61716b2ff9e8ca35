// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A nameless file for segments that must leave memory but are of use to nobody else; it goes with the process.
public final class ScratchFile: Sendable {
  private struct Places {
    var free: [Int] = []
    var count = 0
  }

  /// The measures of its segments.
  public let shape: SegmentShape
  /// The most bytes that it takes.
  public let byteLimit: Int

  private let file: OpenFile
  private let segmentFile: SegmentFile
  private let counter = TrafficCounter()
  private let places = Mutex(Places())
  private static let number = Atomic(0)

  /// Makes a file in a folder, which is made where there is none.
  public init(folder: String, shape: SegmentShape, byteLimit: Int) throws(KVFileError) {
    self.shape = shape
    self.byteLimit = max(byteLimit, 0)
    try Folder.make(folder)
    file = try Self.open(folder, counter)
    segmentFile = SegmentFile(file, named: folder + "/(scratch)", counter: counter)
  }

  private static func open(
    _ folder: String, _ counter: TrafficCounter
  ) throws(KVFileError) -> OpenFile {
    #if os(Linux)
      // O_TMPFILE, a macro that Swift does not import; some file systems lack it.
      let nameless: Int32 = 0o20_000_000 | O_DIRECTORY
      if let file = try? OpenFile(folder, O_RDWR | nameless, counter: counter) { return file }
    #endif
    let name = "scratch.\(getpid()).\(number.add(1, ordering: .relaxed).newValue)"
    let file = try OpenFile(
      folder + "/" + name, O_RDWR | O_CREAT | O_EXCL, counter: counter)
    _ = unsafe unlink(file.path)
    return file
  }

  /// What was read and written here.
  public var traffic: Traffic { counter.traffic }

  /// How many segments it holds.
  public var segmentCount: Int { places.withLock { $0.count - $0.free.count } }

  /// The bytes that its segments take, free places among them too.
  public var byteCount: Int { places.withLock { $0.count * shape.byteCount } }

  /// Writes a segment; its place is free again when the last reference to it goes.
  /// - Throws: `KVFileError` with the code `full` where the limit leaves no place.
  public func write(_ contents: SegmentContents) throws(KVFileError) -> StoredSegment {
    contents.check(shape)
    let place = places.withLock { places -> Int? in
      if let place = places.free.popLast() { return place }
      guard (places.count + 1) * shape.byteCount <= byteLimit else { return nil }
      places.count += 1
      return places.count - 1
    }
    guard let place else {
      throw KVFileError(
        .full, segmentFile.path,
        "all of its \(byteLimit) bytes are in use; raise the limit of the scratch file")
    }
    let lease = Lease { [self] in free(place) }
    // Where this throws, the lease's end frees the place.
    let header = try contents.write(
      to: file, at: place * shape.byteCount, shape,
      StoredSegment.location(segmentFile.path, place))
    return StoredSegment(
      header, shape, in: segmentFile, at: place * shape.byteCount, number: place, lease: lease)
  }

  /// Gives a segment up, though there are references to it: it can no longer be read.
  public func free(_ segment: StoredSegment) {
    precondition(segment.file === segmentFile, "the segment lies elsewhere")
    segment.lease?.end()
  }

  private func free(_ place: Int) {
    places.withLock { places in
      places.free.append(place)
      guard places.free.count == places.count else { return }
      // Nobody writes now: the disk gets everything back.
      places = Places()
      try? file.truncate(to: 0)
    }
  }
}
