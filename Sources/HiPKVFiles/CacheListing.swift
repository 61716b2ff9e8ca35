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
  /// What a folder has of one kind.
  public struct Entry: Sendable, Hashable {
    /// The name of its folder: what `remove` takes.
    public let name: String
    /// What its segments are, one `key: value` per line; empty where that is not known.
    public let description: String
    /// How many segments there are.
    public let segmentCount: Int
    /// How many tokens those have.
    public let tokenCount: Int
    /// How many bytes they take.
    public let byteCount: Int
    /// When one was used last, in seconds since 1970.
    public let lastUse: Int
  }

  /// Which segments are removed.
  public enum Selection: Sendable, Hashable {
    /// All of them.
    case all
    /// Those of the kind with that name.
    case kind(String)
    /// Those that were not used since then, in seconds since 1970.
    case unused(since: Int)
  }

  /// A file that is not what was written.
  public struct Problem: Sendable, Hashable {
    /// The file.
    public let path: String
    /// What is wrong.
    public let message: String
  }

  /// The bytes that its segments take, of those that are being written too.
  public var byteCount: Int { CachedFile.all(in: path).reduce(0) { $0 + $1.byteCount } }

  /// What is there, by kind, the one used last first.
  public func list() -> [Entry] {
    kindFolders.compactMap { name in
      let folder = path + "/" + name
      let files = segments(of: name)
      guard !files.isEmpty else { return nil }
      let kind = Self.readKind(folder + "/" + CachedFile.kindName, counter)
      return Entry(
        name: name, description: kind?.description ?? "", segmentCount: files.count,
        tokenCount: files.reduce(0) { $0 + claimedTokenCount($1, kind) },
        byteCount: files.reduce(0) { $0 + $1.byteCount },
        lastUse: files.map { $0.time.tv_sec }.max() ?? 0)
    }.sorted { ($0.lastUse, $0.name) > ($1.lastUse, $1.name) }
  }

  /// Removes segments, those in use too: who has one open can read it as long as its file stays open.
  /// - Returns: The bytes that this gives back.
  @discardableResult
  public func remove(_ selection: Selection) throws(KVFileError) -> Int {
    let lock = try FolderLock(path)
    defer { lock.release() }
    var freed = 0
    for name in kindFolders {
      if case .kind(let kind) = selection, kind != name { continue }
      for file in segments(of: name) {
        if case .unused(let time) = selection, file.time.tv_sec >= time { continue }
        guard unsafe unlink(file.path) == 0 || errno == ENOENT else {
          throw KVFileError(system: errno, file.path, "cannot be removed")
        }
        freed += file.byteCount
      }
      let folder = path + "/" + name
      if Folder.names(in: folder) == [CachedFile.kindName] {
        _ = unsafe unlink(folder + "/" + CachedFile.kindName)
        _ = unsafe rmdir(folder)
      }
    }
    return freed
  }

  /// Removes one segment, for example because a page of it is damaged; unless it has been replaced meanwhile.
  public func remove(_ segment: StoredSegment) {
    guard let lock = try? FolderLock(path) else { return }
    defer { lock.release() }
    let path = segment.file.path
    if let file = try? OpenFile(path, O_RDONLY, counter: counter),
      let hash = try? file.read(
        Digest256.byteCount, at: segment.shape.headerByteCount - Digest256.byteCount, path),
      hash != segment.header.hash.bytes,
      let header = try? SegmentHeader.read(
        file, at: 0, kind: segment.kind, segment.shape, path),
      header.digest == segment.digest
    {
      return
    }
    _ = unsafe unlink(path)
  }

  /// Reads all that is there, and says what is not as it was written.
  /// - Parameters:
  ///   - removing: whether what is damaged is removed too.
  ///   - progress: is told how many segments have been read, and of how many.
  public func verify(
    removing: Bool = false, progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) -> [Problem] {
    let all = kindFolders.flatMap { name in segments(of: name).map { (name, $0) } }
    var problems: [Problem] = []
    for (index, (name, file)) in all.enumerated() {
      if let error = problem(of: file, in: name), error.code != .missing {
        problems.append(Problem(path: file.path, message: error.problem))
        if removing { _ = unsafe unlink(file.path) }
      }
      progress(index + 1, all.count)
    }
    return problems
  }

  private func problem(of file: CachedFile, in name: String) -> KVFileError? {
    let kindPath = "\(path)/\(name)/\(CachedFile.kindName)"
    guard let kind = Self.readKind(kindPath, counter), kind.folderName == name else {
      return .damaged(kindPath, "it is not known what these segments are")
    }
    do throws(KVFileError) {
      let opened = try OpenFile(file.path, O_RDONLY, counter: counter)
      guard try opened.byteCount() == kind.shape.byteCount else {
        throw .damaged(file.path, "it has another size")
      }
      let header = try SegmentHeader.read(opened, at: 0, kind: kind.digest, kind.shape, file.path)
      guard Self.name(of: header.digest) == file.name else {
        throw .damaged(file.path, "it is another segment")
      }
      let place = SegmentFile(opened, named: file.path, counter: counter)
      try StoredSegment(header, kind.shape, in: place).verify()
      return nil
    } catch {
      return error
    }
  }

  private var kindFolders: [String] { CachedFile.kindFolders(in: path) }

  private func segments(of name: String) -> [CachedFile] {
    let folder = path + "/" + name
    return Folder.names(in: folder).compactMap { CachedFile(folder, $0) }.filter(\.isWritten)
  }

  private func claimedTokenCount(_ file: CachedFile, _ kind: ContextKind?) -> Int {
    guard let kind, let opened = try? OpenFile(file.path, O_RDONLY, counter: counter),
      let bytes = try? opened.read(SegmentHeader.fixedByteCount, at: 0, file.path),
      let count = SegmentHeader.claimedTokenCount(bytes), count <= kind.shape.tokenCapacity
    else { return 0 }
    return count
  }
}
