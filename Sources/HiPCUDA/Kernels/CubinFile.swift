// SPDX-License-Identifier: Apache-2.0

internal import Crypto

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A cubin in a file: a mark, the SHA-256 of the code, and the code.
enum CubinFile {
  private static let mark = Array("IHPCUBIN".utf8)
  private static let headerCount = 8 + 32

  /// What became of reading one.
  enum Contents {
    case absent
    case damaged
    case cubin([UInt8])
  }

  static func digest(_ bytes: [UInt8]) -> [UInt8] {
    var hash = SHA256()
    unsafe bytes.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
    return Array(hash.finalize())
  }

  static func read(_ path: String) -> Contents {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { return errno == ENOENT ? .absent : .damaged }
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
      status.st_size > headerCount, status.st_size < 1 << 30
    else { return .damaged }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    var count = 0
    while count < bytes.count {
      let read = unsafe bytes.withUnsafeMutableBytes { buffer in
        unsafe pread(
          descriptor, buffer.baseAddress?.advanced(by: count), buffer.count - count, off_t(count))
      }
      if read < 0 && errno == EINTR { continue }
      guard read > 0 else { return .damaged }
      count += read
    }
    let cubin = Array(bytes[headerCount...])
    guard bytes.starts(with: mark), bytes[8..<headerCount].elementsEqual(digest(cubin)) else {
      return .damaged
    }
    return .cubin(cubin)
  }

  /// Writes one beside its place and moves it there, so that nobody ever sees a part of it.
  /// - Parameter temporary: a name that nobody else takes.
  /// - Returns: why that failed; nil when it did not.
  static func write(_ cubin: [UInt8], to path: String, by temporary: String) -> String? {
    let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return "\(temporary) cannot be made: \(lastError)" }
    let bytes = mark + digest(cubin) + cubin
    var count = 0
    var problem: String?
    while count < bytes.count, problem == nil {
      let written = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Self.write(descriptor, buffer, from: count)
      }
      if written < 0 && errno == EINTR { continue }
      if written > 0 { count += written } else { problem = "\(temporary): \(lastError)" }
    }
    if close(descriptor) != 0, problem == nil { problem = "\(temporary): \(lastError)" }
    if problem == nil, unsafe rename(temporary, path) != 0 {
      problem = "\(path) cannot be replaced: \(lastError)"
    }
    if problem != nil { _ = unsafe unlink(temporary) }
    return problem
  }

  private static func write(
    _ descriptor: Int32, _ buffer: UnsafeRawBufferPointer, from start: Int
  ) -> Int {
    unsafe pwrite(
      descriptor, buffer.baseAddress?.advanced(by: start), buffer.count - start, off_t(start))
  }

  /// Makes a folder, and those that it lies in.
  /// - Returns: why that failed; nil when it did not.
  static func makeFolder(_ path: String) -> String? {
    var status = stat()
    if unsafe stat(path, &status) == 0 {
      return status.st_mode & S_IFMT == S_IFDIR ? nil : "\(path) is a file, not a folder"
    }
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex,
      let problem = makeFolder(String(path[..<slash]))
    {
      return problem
    }
    let isMade = unsafe mkdir(path, 0o700) == 0 || errno == EEXIST
    return isMade ? nil : "\(path) cannot be made: \(lastError)"
  }

  private static var lastError: String {
    unsafe strerror(errno).map { unsafe String(cString: $0) } ?? "error \(errno)"
  }
}
