// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What is done with folders and names.
enum Folder {
  /// Makes a folder, and those that it lies in.
  static func make(_ path: String) throws(KVFileError) {
    var status = stat()
    if unsafe stat(path, &status) == 0 {
      if status.st_mode & S_IFMT == S_IFDIR { return }
      throw KVFileError(.io, path, "is a file, not a folder; remove it, or choose another folder")
    }
    if let parent = parent(of: path), parent != path { try make(parent) }
    guard unsafe mkdir(path, 0o700) == 0 || errno == EEXIST else {
      throw KVFileError(system: errno, path, "cannot be made")
    }
  }

  static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

  /// The folder of a path; nil for a name.
  static func parent(of path: String) -> String? {
    var path = Substring(path)
    while path.count > 1, path.last == "/" { path.removeLast() }
    guard let slash = path.lastIndex(of: "/") else { return nil }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// The names in a folder, but for hidden ones; none where it cannot be read.
  static func names(in path: String) -> [String] {
    guard let folder = unsafe opendir(path) else { return [] }
    defer { unsafe closedir(folder) }
    var names: [String] = []
    while let entry = unsafe readdir(folder) {
      let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { tuple in
        unsafe String(cString: UnsafeRawPointer(tuple).assumingMemoryBound(to: CChar.self))
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
  }

  /// Makes what was created or renamed in a folder last; some file systems know no such call.
  static func sync(_ path: String) {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    _ = fsync(descriptor)
    close(descriptor)
  }

  /// Notes when a segment was used.
  ///
  /// The nanoseconds hold its depth in the text, turned round: of the segments of one text, used at the same second,
  /// the deepest counts as the oldest, and nobody has to read a header to know.
  static func setTime(_ path: String, second: Int, depth: Int) {
    let time = timespec(tv_sec: second, tv_nsec: 999_999_999 - min(depth, 999_999_999))
    _ = unsafe utimensat(AT_FDCWD, path, [time, time], 0)
  }
}

extension stat {
  /// What the file takes of the disk: holes take nothing.
  var allocatedByteCount: Int { Int(st_blocks) * 512 }

  var changeTime: timespec {
    #if canImport(Darwin)
      st_mtimespec
    #else
      st_mtim
    #endif
  }
}
