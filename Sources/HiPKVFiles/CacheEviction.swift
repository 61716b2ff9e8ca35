// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A file in a cache folder: a segment, or one that is being written.
struct CachedFile {
  static let segmentSuffix = ".segment"
  static let writingSuffix = ".writing"
  static let kindName = "kind"

  let path: String
  /// What its digest begins with.
  let name: String
  let isWritten: Bool
  /// What it takes of the disk, or will.
  let byteCount: Int
  /// When it was used last; see `Folder.setTime`.
  let time: timespec

  /// Examines a file; nil when it is neither, or has gone.
  init?(_ folder: String, _ fileName: String) {
    let isWritten = fileName.hasSuffix(Self.segmentSuffix)
    guard isWritten || fileName.hasSuffix(Self.writingSuffix) else { return nil }
    path = folder + "/" + fileName
    self.isWritten = isWritten
    var status = stat()
    guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    let parts = fileName.split(separator: ".")
    name = parts.first.map(String.init) ?? ""
    let isOurs = name.utf8.count == 32 && name.allSatisfy(\.isHexDigit)
    guard isOurs || fileName == Self.kindName + Self.writingSuffix else { return nil }
    let reserved = isWritten || parts.count < 2 ? 0 : Int(parts[1]) ?? 0
    byteCount = max(status.allocatedByteCount, min(reserved, Int(status.st_size)))
    time = status.changeTime
  }

  /// The folders of kinds, and nothing else that somebody keeps there.
  static func kindFolders(in path: String) -> [String] {
    Folder.names(in: path).filter { $0.utf8.count == 16 && $0.allSatisfy(\.isHexDigit) }
  }

  static func all(in path: String) -> [CachedFile] {
    kindFolders(in: path).flatMap { kind in
      Folder.names(in: path + "/" + kind).compactMap { CachedFile(path + "/" + kind, $0) }
    }
  }

  /// Whether its writer has ended without finishing it; asked while nobody begins another one.
  func isAbandoned(_ counter: TrafficCounter) -> Bool {
    guard !isWritten, let file = try? OpenFile(path, O_RDONLY, counter: counter) else {
      return false
    }
    return (try? file.tryLock()) ?? false
  }

  static func isEarlier(_ left: CachedFile, _ right: CachedFile) -> Bool {
    (left.time.tv_sec, left.time.tv_nsec) < (right.time.tv_sec, right.time.tv_nsec)
  }
}

extension CacheFolder {
  /// Removes what is left of dead writers, and segments until `needed` bytes more are within the limit.
  ///
  /// The caller holds the folder's lock.
  func makeRoom(for needed: Int) throws(KVFileError) {
    var files = CachedFile.all(in: path)
    files.removeAll { file in
      guard file.isAbandoned(counter) else { return false }
      return unsafe unlink(file.path) == 0
    }
    let used = files.reduce(0) { $0 + $1.byteCount }
    var excess = used - byteLimit + needed
    guard excess > 0 else { return }
    let pinned = pins.withLock { Set($0.keys) }
    let candidates = files.filter { $0.isWritten && !pinned.contains($0.name) }
    // Nothing is given up for a segment that will not fit anyway.
    guard candidates.reduce(0, { $0 + $1.byteCount }) >= excess else {
      throw KVFileError(
        .full, path,
        "\(needed) bytes more do not fit the limit of \(byteLimit): the segments in use take "
          + "\(used) bytes; raise the limit of the cache")
    }
    for file in candidates.sorted(by: CachedFile.isEarlier) where excess > 0 {
      if remove(file) { excess -= file.byteCount }
    }
    if excess > 0 {
      throw KVFileError(
        .full, path, "segments were opened meanwhile, and \(needed) bytes do not fit")
    }
  }

  /// Removes a segment unless this object has it open.
  private func remove(_ file: CachedFile) -> Bool {
    pins.withLock { pins in
      guard pins[file.name] == nil else { return false }
      return unsafe unlink(file.path) == 0
    }
  }
}
