// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A file mapped read-only into memory, or memory that stands for one; unmapped when the last reference goes.
@safe public final class MappedFile: Sendable {
  /// The path it was opened with.
  public let path: String
  /// The file's bytes.
  ///
  /// Nobody writes them.
  public nonisolated(unsafe) let bytes: UnsafeRawBufferPointer

  /// Maps the regular file at `path`.
  /// - Throws: `FileError` when it cannot be opened, is no regular file, or is empty.
  public init(path: String) throws(FileError) {
    let descriptor = unsafe open(path, O_RDONLY)
    guard descriptor >= 0 else {
      throw FileError(
        errno == ENOENT ? .missing : .unreadable, path: path,
        problem: "cannot be opened: \(Self.lastError)")
    }
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else {
      throw FileError(.unreadable, path: path, problem: "cannot be examined: \(Self.lastError)")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(.unreadable, path: path, problem: "is not a regular file")
    }
    guard status.st_size > 0 else { throw FileError(path: path, problem: "is empty") }
    let size = Int(status.st_size)
    let address = unsafe mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0)
    guard let address = unsafe address, unsafe address != MAP_FAILED else {
      throw FileError(
        .unreadable, path: path,
        problem: errno == ENOMEM
          ? "takes \(size / 1_000_000) MB of addresses, more than the process may have; raise the limit (ulimit -v)"
          : "cannot be mapped: \(Self.lastError)")
    }
    self.path = path
    unsafe bytes = UnsafeRawBufferPointer(start: address, count: size)
  }

  /// Memory that no file stands behind, filled once.
  /// - Parameters:
  ///   - path: what to call it in errors.
  ///   - byteCount: its size, above 0.
  ///   - fill: writes its contents.
  /// - Throws: `FileError` when there is no memory.
  public init(
    anonymous path: String, byteCount: Int, fill: (UnsafeMutableRawBufferPointer) -> Void
  ) throws(FileError) {
    let address = unsafe mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)
    guard let address = unsafe address, unsafe address != MAP_FAILED else {
      throw FileError(.unreadable, path: path, problem: "there is no memory for \(byteCount) bytes")
    }
    self.path = path
    unsafe fill(UnsafeMutableRawBufferPointer(start: address, count: byteCount))
    unsafe bytes = UnsafeRawBufferPointer(start: address, count: byteCount)
  }

  /// Whether there is a folder at `path`.
  public static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  deinit {
    _ = unsafe munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
  }

  private static var lastError: String {
    unsafe strerror(errno).map { unsafe String(cString: $0) } ?? "error \(errno)"
  }
}
