// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

extension CacheFolder {
  private static let writerNumber = Atomic(0)

  /// Writes a segment, unless it is there already, and removes those that were used longest ago to make room.
  ///
  /// Segments that this object has open stay. Of a text's segments that were used at the same time the last goes first:
  /// the others are of use without it.
  /// - Throws: `KVFileError`; then nothing is left of the segment.
  public func write(
    _ contents: SegmentContents, kind: ContextKind
  ) throws(KVFileError) -> StoredSegment {
    contents.check(kind)
    let identity = contents.identity
    if case .found(let segment) = find(kind, digest: identity.digest) { return segment }
    let byteCount = contents.byteCount(kind.shape)
    let file = try begin(identity, kind, byteCount)
    do throws(KVFileError) {
      _ = try contents.write(to: file, at: 0, kind.shape, file.path)
      try file.sync()
      return try commit(file, identity, kind, byteCount)
    } catch {
      _ = unsafe unlink(file.path)
      refund(byteCount)
      throw error
    }
  }

  /// Writes a segment that is nobody's beginning, within what may be written in a day.
  public func write(
    _ contents: SegmentContents, to scratch: ScratchFile
  ) throws(KVFileError) -> StoredSegment {
    if writesPerDay == 0 { throw WriteLedger.closed(path) }
    do {
      let lock = try FolderLock(path)
      defer { lock.release() }
      var ledger = WriteLedger(lock, day: clock() / WriteLedger.secondsPerDay)
      let byteCount = contents.byteCount(scratch.shape)
      try ledger.check(byteCount, limit: writesPerDay, now: clock())
      try ledger.add(byteCount)
    }
    return try scratch.write(contents)
  }

  /// Reserves room and makes the file that the segment is written to; its name says how much room that is.
  private func begin(
    _ identity: SegmentIdentity, _ kind: ContextKind, _ byteCount: Int
  ) throws(KVFileError) -> OpenFile {
    if writesPerDay == 0 { throw WriteLedger.closed(path) }
    let lock = try FolderLock(path)
    defer { lock.release() }
    var ledger = WriteLedger(lock, day: clock() / WriteLedger.secondsPerDay)
    try ledger.check(byteCount, limit: writesPerDay, now: clock())
    try makeRoom(for: byteCount)
    try Folder.make(folder(of: kind))
    try describe(kind)
    let number = Self.writerNumber.add(1, ordering: .relaxed).newValue
    let name = "\(Self.name(of: identity.digest)).\(byteCount).\(getpid()).\(number)"
    let path = "\(folder(of: kind))/\(name)\(CachedFile.writingSuffix)"
    let file = try OpenFile(path, O_RDWR | O_CREAT | O_EXCL, counter: counter)
    do throws(KVFileError) {
      // Its lock shows others that its writer lives.
      guard try file.tryLock() else { throw KVFileError(.busy, path, "is in use") }
      try file.truncate(to: kind.shape.byteCount)
      try ledger.add(byteCount)
    } catch {
      _ = unsafe unlink(path)
      throw error
    }
    return file
  }

  /// Gives the file its name, unless another process was faster.
  private func commit(
    _ file: OpenFile, _ identity: SegmentIdentity, _ kind: ContextKind, _ reserved: Int
  ) throws(KVFileError) -> StoredSegment {
    let lock = try FolderLock(path)
    defer { lock.release() }
    let path = path(of: identity.digest, kind)
    if let segment = try? open(path, identity.digest, kind) {
      _ = unsafe unlink(file.path)
      return segment
    }
    // What the file system needs for itself, where a file has many holes, was not known before.
    let excess = try file.status().allocatedByteCount - reserved
    if excess > 0 { try makeRoom(for: excess) }
    Folder.setTime(file.path, second: clock(), depth: identity.index)
    guard unsafe rename(file.path, path) == 0 else {
      throw KVFileError(system: errno, path, "cannot be written")
    }
    Folder.sync(folder(of: kind))
    let segment = try open(path, identity.digest, kind)
    segment.lastTouch.store(clock(), ordering: .relaxed)
    return segment
  }

  private func refund(_ byteCount: Int) {
    guard let lock = try? FolderLock(path) else { return }
    defer { lock.release() }
    var ledger = WriteLedger(lock, day: clock() / WriteLedger.secondsPerDay)
    try? ledger.add(-byteCount)
  }

  /// Writes the text that says what the folder's segments are.
  private func describe(_ kind: ContextKind) throws(KVFileError) {
    let path = folder(of: kind) + "/" + CachedFile.kindName
    if Self.readKind(path, counter) == kind { return }
    let temporary = path + CachedFile.writingSuffix
    do throws(KVFileError) {
      let file = try OpenFile(temporary, O_RDWR | O_CREAT | O_TRUNC, counter: counter)
      try file.write(Array(kind.text.utf8), at: 0, path)
      guard unsafe rename(temporary, path) == 0 else {
        throw KVFileError(system: errno, path, "cannot be written")
      }
    } catch {
      _ = unsafe unlink(temporary)
      throw error
    }
  }

  /// The kind whose text is in a file; nil when it is none.
  static func readKind(_ path: String, _ counter: TrafficCounter) -> ContextKind? {
    guard let file = try? OpenFile(path, O_RDONLY, counter: counter),
      let count = try? file.byteCount(), count <= ContextKind.byteLimit,
      let bytes = try? file.read(count, at: 0, path)
    else { return nil }
    return String(validating: bytes, as: UTF8.self).flatMap { ContextKind(text: $0) }
  }
}
