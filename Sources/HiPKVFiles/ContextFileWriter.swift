// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A saved context that grows: a file `NAME.part`, which one process writes at a time.
///
/// Each segment is on the disk before the next one is begun, so that whatever ends the process leaves all but the last.
public final class ContextFileWriter: Sendable {
  private struct Row {
    let digest: Digest256
    let hash: Digest256
    let tokenCount: Int
  }

  /// What the file is called once it is complete.
  public let path: String
  /// What its segments are.
  public let kind: ContextKind

  private let file: ContextSegments
  private let rows: Mutex<[Row]>

  init(_ path: String, kind: ContextKind) throws(KVFileError) {
    self.path = path
    self.kind = kind
    let counter = TrafficCounter()
    let opened = try Self.open(path + ContextFile.partSuffix, counter)
    let header = try Self.header(opened, kind)
    let segments = ContextSegments(opened, header, counter: counter)
    file = segments
    var found: [Row] = []
    let size = try opened.byteCount()
    while segments.offset(found.count + 1) <= size {
      // A segment in part is a text's last one.
      if let last = found.last, last.tokenCount < kind.shape.tokenCapacity { break }
      guard
        let segment = try Self.valid({ () throws(KVFileError) in
          try segments.segment(found.count, parent: found.last?.digest ?? kind.digest)
        })
      else { break }
      found.append(Self.row(segment.header))
    }
    // Those before the last one were on the disk when it was begun; of that one only the header may be.
    while !found.isEmpty {
      let parent = found.dropLast().last?.digest ?? kind.digest
      let whole: Void? = try Self.valid({ () throws(KVFileError) in
        try segments.segment(found.count - 1, parent: parent).verify()
      })
      if whole != nil { break }
      found.removeLast()
    }
    try opened.truncate(to: segments.offset(found.count))
    rows = Mutex(found)
  }

  // Segments that are still read keep the file open; nobody writes it any more.
  deinit { file.file.unlock() }

  /// Nil where what is read is damaged; other failures, of the disk for example, must not cost what was written.
  private static func valid<Value>(
    _ read: () throws(KVFileError) -> Value
  ) throws(KVFileError) -> Value? {
    do throws(KVFileError) {
      return try read()
    } catch  where [.damaged, .otherKind, .otherVersion].contains(error.code) {
      return nil
    }
  }

  private static func row(_ header: SegmentHeader) -> Row {
    Row(digest: header.digest, hash: header.hash, tokenCount: header.tokenCount)
  }

  /// Opens and locks the file; one that another process has just finished is another file now.
  private static func open(
    _ path: String, _ counter: TrafficCounter
  ) throws(KVFileError) -> OpenFile {
    while true {
      let file = try OpenFile(path, O_RDWR | O_CREAT, counter: counter)
      guard try file.tryLock() else {
        throw KVFileError(
          .busy, path, "another process writes it; wait for it, or choose another name")
      }
      if try file.isAtItsPath() { return file }
    }
  }

  /// Reads the header, or writes it where none has been written.
  private static func header(
    _ file: OpenFile, _ kind: ContextKind
  ) throws(KVFileError) -> ContextHeader {
    let (new, bytes) = ContextHeader.make(kind)
    let size = try file.byteCount()
    let start = try file.read(min(size, new.byteCount), at: 0, file.path)
    // It is on the disk before the first segment is begun: in part, it stands alone.
    let isBegun =
      size <= new.byteCount && start != bytes
      && (start.allSatisfy { $0 == 0 }
        || ContextHeader.magic.starts(with: start.prefix(ContextHeader.magic.count)))
    if isBegun, (try? ContextHeader.read(file)) == nil {
      try file.truncate(to: 0)
      try file.write(bytes, at: 0, file.path)
      try file.sync()
      Folder.sync(Folder.parent(of: file.path) ?? ".")
      return new
    }
    let header = try ContextHeader.read(file)
    guard header.kind == kind else {
      throw KVFileError(
        .otherKind, file.path,
        "was begun for another model, format or policy: "
          + "\(kind.differences(from: header.kind)); remove it to begin anew")
    }
    return header
  }

  /// How many segments it has.
  public var segmentCount: Int { rows.withLock { $0.count } }
  /// How many tokens those have.
  public var tokenCount: Int { rows.withLock { $0.reduce(0) { $0 + $1.tokenCount } } }
  /// What was read and written here.
  public var traffic: Traffic { file.counter.traffic }

  /// The digest of a segment's text up to its end.
  public func digest(of index: Int) -> Digest256 { rows.withLock { $0[index].digest } }

  /// A segment that was written before.
  public func segment(_ index: Int) -> Lookup {
    let (row, parent) = rows.withLock {
      ($0[index], index == 0 ? kind.digest : $0[index - 1].digest)
    }
    do throws(KVFileError) {
      let segment = try file.segment(index, parent: parent)
      guard segment.header.hash == row.hash else {
        throw .damaged(segment.location, "it is not the segment that was written here")
      }
      return .found(segment)
    } catch {
      return .damaged(error)
    }
  }

  /// Gives up all segments but the first ones: what follows is another text, or a last segment has grown.
  public func keepFirst(_ count: Int) throws(KVFileError) {
    try rows.withLock { rows throws(KVFileError) in
      guard count < rows.count else { return }
      rows.removeLast(rows.count - max(count, 0))
      try file.file.truncate(to: file.offset(rows.count))
    }
  }

  /// Writes the next segment, and returns when it is on the disk.
  @discardableResult
  public func append(_ contents: SegmentContents) throws(KVFileError) -> StoredSegment {
    contents.check(kind)
    return try rows.withLock { rows throws(KVFileError) in
      let identity = contents.identity
      // One before it may have failed to be written.
      guard identity.index == rows.count,
        identity.parent == rows.last?.digest ?? kind.digest,
        rows.last.map({ $0.tokenCount == kind.shape.tokenCapacity }) ?? true
      else {
        throw KVFileError(
          .io, file.file.path, "segment \(identity.index) does not follow what was written")
      }
      let start = file.offset(rows.count)
      do throws(KVFileError) {
        // Nothing of an attempt that failed shows through the holes.
        try file.file.truncate(to: start)
        try file.file.truncate(to: file.offset(rows.count + 1))
        let header = try contents.write(
          to: file.file, at: start, kind.shape,
          StoredSegment.location(file.file.path, rows.count))
        try file.file.sync()
        rows.append(Self.row(header))
        return file.stored(header, rows.count - 1)
      } catch {
        try? file.file.truncate(to: start)
        throw error
      }
    }
  }

  /// Completes the file and gives it its name, in place of one that has it already.
  /// - Parameter tail: tokens that follow those of the segments.
  public func finish(tail: [Int32] = []) throws(KVFileError) -> ContextFile {
    try rows.withLock { rows throws(KVFileError) in
      var tokens: [Int32] = []
      for (index, row) in rows.enumerated() {
        let parent = index == 0 ? kind.digest : rows[index - 1].digest
        let segment = try file.segment(index, parent: parent)
        guard segment.header.hash == row.hash else {
          throw .damaged(segment.location, "it is not the segment that was written here")
        }
        tokens += try segment.tokens()
      }
      let trailer = ContextTrailer(
        segmentHashes: rows.map(\.hash), tokens: tokens + tail, tailCount: tail.count)
      let part = file.file
      let bytes = trailer.bytes(file.header)
      try part.truncate(to: file.offset(rows.count))
      try part.write(bytes, at: file.offset(rows.count), part.path)
      try part.sync()
      guard unsafe rename(part.path, path) == 0 else {
        throw KVFileError(system: errno, path, "cannot be written")
      }
      Folder.sync(Folder.parent(of: path) ?? ".")
    }
    return try ContextFile.open(path, kind: kind)
  }
}
