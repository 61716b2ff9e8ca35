// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A folder of segments that are found by their digest, shared by processes, and limited in bytes.
///
/// `KIND/DIGEST.segment` each, `KIND/kind` with a text, and `writes`: what was written today. Whoever adds or removes
/// something holds the lock of `writes`; looking for and reading segments needs no lock.
public final class CacheFolder: Sendable {
  /// What tests change.
  package struct Options: Sendable {
    package var openFileLimit = 256
    package var clock: @Sendable () -> Int = { time(nil) }
    /// Bytes after which the disk counts as full.
    package var diskSpace = Int.max

    package init() {}
  }

  /// The folder.
  public let path: String
  /// The most bytes that its segments take.
  public let byteLimit: Int
  /// The most bytes that are written in a day; `Int.max`: no limit, 0: nothing is written.
  public let writesPerDay: Int

  let clock: @Sendable () -> Int
  let counter: TrafficCounter
  let pool: FilePool
  let pins = Mutex<[String: Int]>([:])

  /// Opens a folder, and makes it where there is none.
  ///
  /// Removes what writers left that did not finish, and what exceeds the limit. Where nothing may be written, the
  /// folder is left as it is.
  public convenience init(path: String, byteLimit: Int, writesPerDay: Int) throws(KVFileError) {
    try self.init(
      path: path, byteLimit: byteLimit, writesPerDay: writesPerDay, options: Options())
  }

  package init(
    path: String, byteLimit: Int, writesPerDay: Int, options: Options
  ) throws(KVFileError) {
    self.path = path
    self.byteLimit = max(byteLimit, 0)
    self.writesPerDay = max(writesPerDay, 0)
    clock = options.clock
    counter = TrafficCounter(space: options.diskSpace)
    pool = FilePool(limit: options.openFileLimit)
    guard writesPerDay > 0 else { return }
    try Folder.make(path)
    do throws(KVFileError) {
      let lock = try FolderLock(path)
      defer { lock.release() }
      try makeRoom(for: 0)
    } catch  where error.code == .notPermitted {
      // One that may only be read is of use all the same.
    } catch  where error.code == .full {
      // What other processes write right now is more than this one's limit: they know best.
    }
  }

  /// What was read and written here by this object.
  public var traffic: Traffic { counter.traffic }

  // MARK: Reading

  /// Looks for a segment; a file of its name that is damaged, or of another kind, is removed.
  public func find(_ kind: ContextKind, digest: Digest256) -> Lookup {
    let path = path(of: digest, kind)
    do throws(KVFileError) {
      return .found(try open(path, digest, kind))
    } catch {
      switch error.code {
      case .missing: return .absent
      case .damaged, .otherKind, .otherVersion: discard(path, digest, kind)
      default: break
      }
      return .damaged(error)
    }
  }

  func open(
    _ path: String, _ digest: Digest256, _ kind: ContextKind
  ) throws(KVFileError) -> StoredSegment {
    // Pinned before it is opened: nothing may be removed in between. The lease's end unpins it.
    let lease = pin(digest)
    let file = try OpenFile(path, O_RDONLY, counter: counter)
    let size = try file.byteCount()
    guard size == kind.shape.byteCount else {
      throw .damaged(path, "has \(size) bytes, not \(kind.shape.byteCount)")
    }
    let header = try SegmentHeader.read(file, at: 0, kind: kind.digest, kind.shape, path)
    guard header.digest == digest else { throw .damaged(path, "is another segment") }
    let segmentFile = SegmentFile(file, pool: pool, named: path, counter: counter)
    return StoredSegment(header, kind.shape, in: segmentFile, lease: lease)
  }

  private func pin(_ digest: Digest256) -> Lease {
    let name = Self.name(of: digest)
    pins.withLock { $0[name, default: 0] += 1 }
    return Lease { [self] in
      pins.withLock { pins in
        let count = pins[name, default: 1] - 1
        pins[name] = count > 0 ? count : nil
      }
    }
  }

  /// Removes a file that was found to be of no use, unless another process has just put a good one in its place.
  private func discard(_ path: String, _ digest: Digest256, _ kind: ContextKind) {
    guard let lock = try? FolderLock(self.path) else { return }
    defer { lock.release() }
    do throws(KVFileError) {
      _ = try open(path, digest, kind)
    } catch  where [.damaged, .otherKind, .otherVersion].contains(error.code) {
      _ = unsafe unlink(path)
    } catch {}
  }

  // MARK: Use

  /// Notes that segments were used, so that others go first; at most once a minute for each.
  public func touch(_ segments: [StoredSegment]) {
    let now = clock()
    for segment in segments {
      let last = segment.lastTouch.load(ordering: .relaxed)
      guard now >= last + 60 || now < last else { continue }
      segment.lastTouch.store(now, ordering: .relaxed)
      Folder.setTime(segment.file.path, second: now, depth: segment.index)
    }
  }

  // MARK: Names

  func folder(of kind: ContextKind) -> String { path + "/" + kind.folderName }

  func path(of digest: Digest256, _ kind: ContextKind) -> String {
    "\(folder(of: kind))/\(Self.name(of: digest))\(CachedFile.segmentSuffix)"
  }

  static func name(of digest: Digest256) -> String { String(digest.hex.prefix(32)) }
}
