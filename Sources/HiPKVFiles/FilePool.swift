// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Keeps the files open that were read last, so that many segments need few descriptors.
final class FilePool: Sendable {
  private struct State {
    var files: [ObjectIdentifier: (file: OpenFile, use: Int)] = [:]
    var uses = 0

    mutating func use(_ key: ObjectIdentifier) -> OpenFile? {
      guard let file = files[key]?.file else { return nil }
      uses += 1
      files[key]?.use = uses
      return file
    }
  }

  private let state = Mutex(State())
  private let limit: Int

  init(limit: Int) { self.limit = max(limit, 1) }

  var openCount: Int { state.withLock { $0.files.count } }

  func file(of owner: SegmentFile) -> OpenFile? {
    state.withLock { $0.use(ObjectIdentifier(owner)) }
  }

  /// Keeps a file open, and closes the one that was not used for longest.
  func keep(_ file: OpenFile, of owner: SegmentFile) {
    // What is dropped is closed outside the lock, unless a thread still reads it.
    _ = state.withLock { state -> OpenFile? in
      state.uses += 1
      state.files[ObjectIdentifier(owner)] = (file, state.uses)
      guard state.files.count > limit else { return nil }
      let oldest = state.files.min { $0.value.use < $1.value.use }
      return oldest.flatMap { state.files.removeValue(forKey: $0.key)?.file }
    }
  }

  func forget(_ owner: SegmentFile) {
    _ = state.withLock { $0.files.removeValue(forKey: ObjectIdentifier(owner))?.file }
  }
}

/// Where segments lie: a file that stays open, or one that is opened when it is read.
final class SegmentFile: Sendable {
  /// Its path, for messages too.
  let path: String
  private let file: OpenFile?
  private let pool: FilePool?
  private let counter: TrafficCounter

  /// A file that stays open.
  init(_ file: OpenFile, named path: String, counter: TrafficCounter) {
    self.path = path
    self.file = file
    pool = nil
    self.counter = counter
  }

  /// A file of which the pool decides how long it stays open.
  init(_ file: OpenFile, pool: FilePool, named path: String, counter: TrafficCounter) {
    self.path = path
    self.file = nil
    self.pool = pool
    self.counter = counter
    pool.keep(file, of: self)
  }

  deinit { pool?.forget(self) }

  /// The open file.
  /// - Parameter check: what a file must pass that has been opened again: another one may have taken its place.
  func open(
    _ check: (OpenFile) throws(KVFileError) -> Void
  ) throws(KVFileError) -> OpenFile {
    if let file = file ?? pool?.file(of: self) { return file }
    let opened: OpenFile
    do throws(KVFileError) {
      opened = try OpenFile(path, O_RDONLY, counter: counter)
    } catch  where error.code == .missing {
      throw KVFileError(.missing, path, "was removed meanwhile; its tokens must be prefilled again")
    }
    try check(opened)
    pool?.keep(opened, of: self)
    return opened
  }
}
