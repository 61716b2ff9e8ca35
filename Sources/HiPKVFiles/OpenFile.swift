// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// An open regular file, closed when the last reference goes: a thread that reads it keeps it open.
final class OpenFile: Sendable {
  /// The path it was opened with, for messages.
  let path: String
  private let descriptor: Int32
  private let counter: TrafficCounter

  /// Opens a file; `flags` are those of `open`.
  init(_ path: String, _ flags: Int32, counter: TrafficCounter) throws(KVFileError) {
    // Texts of people are nobody else's. A pipe of that name must not hold up whoever opens it.
    var result: Int32 = -1
    repeat {
      result = unsafe open(path, flags | O_CLOEXEC | O_NONBLOCK, 0o600)
    } while result < 0 && errno == EINTR
    guard result >= 0 else { throw KVFileError(system: errno, path, "cannot be opened") }
    self.path = path
    self.counter = counter
    descriptor = result
    guard try status().st_mode & S_IFMT == S_IFREG else {
      throw KVFileError(.notAContextFile, path, "is not a regular file")
    }
  }

  deinit { close(descriptor) }

  func status() throws(KVFileError) -> stat {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else {
      throw KVFileError(system: errno, path, "cannot be examined")
    }
    return status
  }

  func byteCount() throws(KVFileError) -> Int { Int(try status().st_size) }

  /// Whether the path still leads to this very file.
  func isAtItsPath() throws(KVFileError) -> Bool {
    var there = stat()
    guard unsafe lstat(path, &there) == 0 else { return false }
    let own = try status()
    return own.st_ino == there.st_ino && own.st_dev == there.st_dev
  }

  // MARK: Reading

  /// Fills the buffers with what follows `offset`.
  /// - Throws: `damaged` where the file ends before.
  @safe func read(_ buffers: [iovec], at offset: Int, _ place: String) throws(KVFileError) {
    var rest = unsafe Vectors(buffers)
    var offset = offset
    while !rest.isEmpty {
      let count = unsafe rest.withNext { unsafe preadv(descriptor, $0, $1, off_t(offset)) }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw KVFileError(system: errno, place, "cannot be read") }
      guard count > 0 else { throw .damaged(place, "the file ends too early") }
      counter.addRead(count)
      offset += count
      rest.drop(count)
    }
  }

  @safe func read(
    into buffer: UnsafeMutableRawBufferPointer, at offset: Int, _ place: String
  ) throws(KVFileError) {
    guard let address = buffer.baseAddress, buffer.count > 0 else { return }
    // One page: the usual case, without an array.
    var count = 0
    repeat {
      count = unsafe pread(descriptor, address, buffer.count, off_t(offset))
    } while count < 0 && errno == EINTR
    guard count != buffer.count else { return counter.addRead(count) }
    unsafe try read(
      [iovec(iov_base: address, iov_len: buffer.count)], at: offset, place)
  }

  /// The `count` bytes that follow `offset`; the caller has checked the count against the file's size.
  func read(_ count: Int, at offset: Int, _ place: String) throws(KVFileError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Result<Void, KVFileError> in
      do throws(KVFileError) {
        return .success(try read(into: buffer, at: offset, place))
      } catch {
        return .failure(error)
      }
    }
    try result.get()
    return bytes
  }

  /// Advice: without it everything works, only slower.
  func prefetch(_ count: Int, at offset: Int) {
    #if canImport(Darwin)
      var range = radvisory(ra_offset: off_t(offset), ra_count: Int32(clamping: count))
      _ = unsafe fcntl(descriptor, F_RDADVISE, &range)
    #else
      _ = posix_fadvise(descriptor, off_t(offset), off_t(count), POSIX_FADV_WILLNEED)
    #endif
  }

  // MARK: Writing

  /// Writes all of the buffers at `offset`.
  @safe func write(_ buffers: [iovec], at offset: Int, _ place: String) throws(KVFileError) {
    var rest = unsafe Vectors(buffers)
    var offset = offset
    while !rest.isEmpty {
      guard counter.hasSpace else { throw KVFileError(system: ENOSPC, place, "cannot be written") }
      let count = unsafe rest.withNext { unsafe pwritev(descriptor, $0, $1, off_t(offset)) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else {
        throw KVFileError(system: count < 0 ? errno : ENOSPC, place, "cannot be written")
      }
      counter.addWritten(count)
      offset += count
      rest.drop(count)
    }
  }

  func write(_ bytes: [UInt8], at offset: Int, _ place: String) throws(KVFileError) {
    let result = unsafe bytes.withUnsafeBytes { buffer -> Result<Void, KVFileError> in
      do throws(KVFileError) {
        let address = unsafe UnsafeMutableRawPointer(mutating: buffer.baseAddress)
        return .success(
          unsafe try write(
            [iovec(iov_base: address, iov_len: buffer.count)], at: offset, place))
      } catch {
        return .failure(error)
      }
    }
    try result.get()
  }

  func truncate(to count: Int) throws(KVFileError) {
    while ftruncate(descriptor, off_t(count)) != 0 {
      guard errno == EINTR else { throw KVFileError(system: errno, path, "cannot be resized") }
    }
  }

  /// Waits until everything has reached the disk.
  func sync() throws(KVFileError) {
    #if canImport(Darwin)
      // There fsync leaves it in the disk's own memory.
      if fcntl(descriptor, F_FULLFSYNC) == 0 { return }
    #endif
    while fsync(descriptor) != 0 {
      guard errno == EINTR else { throw KVFileError(system: errno, path, "cannot be written") }
    }
  }

  // MARK: Locks

  /// Waits until no other process, nor other opening of this file, holds its lock.
  func lock() throws(KVFileError) {
    while flock(descriptor, LOCK_EX) != 0 {
      guard errno == EINTR else { throw KVFileError(system: errno, path, "cannot be locked") }
    }
  }

  func unlock() { _ = flock(descriptor, LOCK_UN) }

  /// Takes the lock if nobody holds it.
  func tryLock() throws(KVFileError) -> Bool {
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      if errno == EWOULDBLOCK { return false }
      guard errno == EINTR else { throw KVFileError(system: errno, path, "cannot be locked") }
    }
    return true
  }
}
