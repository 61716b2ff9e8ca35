// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The lock of a cache folder, held from its making to its release.
final class FolderLock: Sendable {
  static let fileName = "writes"
  let file: OpenFile

  init(_ folder: String) throws(KVFileError) {
    // Its bytes are not the traffic of anybody.
    file = try OpenFile(
      folder + "/" + Self.fileName, O_RDWR | O_CREAT, counter: TrafficCounter())
    try file.lock()
  }

  /// Ends the lock.
  func release() { file.unlock() }
}

/// How much was written on one day, in the file that is the folder's lock: the day's number and the bytes.
struct WriteLedger {
  static let secondsPerDay = 86_400

  private let lock: FolderLock
  private let day: Int
  private var byteCount: Int

  /// Reads what was written on a day, counted from 1970.
  init(_ lock: FolderLock, day: Int) {
    self.lock = lock
    self.day = day
    let file = lock.file
    let size = min((try? file.byteCount()) ?? 0, 64)
    let bytes = (try? file.read(size, at: 0, file.path)) ?? []
    let numbers = String(decoding: bytes, as: UTF8.self)
      .split { $0 == " " || $0 == "\n" }.map { Int($0) ?? -1 }
    // Another day's count, or what is no ledger, counts for nothing.
    byteCount = numbers.count == 2 && numbers[0] == day ? max(numbers[1], 0) : 0
  }

  /// Throws where so many bytes more are not allowed today.
  func check(_ count: Int, limit: Int, now: Int) throws(KVFileError) {
    guard limit != .max, byteCount > limit - count else { return }
    let minutes = (Self.secondsPerDay - now % Self.secondsPerDay + 59) / 60
    throw KVFileError(
      .writeLimit, Folder.parent(of: lock.file.path) ?? lock.file.path,
      "\(byteCount) of \(limit) bytes that may be written in a day are used, and \(count) more do "
        + "not fit; it starts anew in \(minutes / 60) h \(minutes % 60) min (00:00 UTC), or raise "
        + "the limit of writes per day")
  }

  static func closed(_ path: String) -> KVFileError {
    KVFileError(
      .writeLimit, path, "nothing may be written: the limit of writes per day is 0; raise it")
  }

  /// Adds bytes, or takes back those that were not written.
  mutating func add(_ count: Int) throws(KVFileError) {
    let (sum, overflow) = byteCount.addingReportingOverflow(count)
    byteCount = overflow ? .max : max(sum, 0)
    let text = Array("\(day) \(byteCount)\n".utf8)
    try lock.file.write(text, at: 0, lock.file.path)
    try lock.file.truncate(to: text.count)
  }
}
