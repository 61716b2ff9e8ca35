// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A file of keys and values that cannot be used or written.
public struct KVFileError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure, for callers that react to it.
  public enum Code: Sendable, Hashable {
    /// Its bytes are not those that were written.
    case damaged
    /// There is no such file, or no longer.
    case missing
    /// The page was not kept.
    case absentPage
    /// The disk, or the quota on it, is full.
    case noSpace
    /// The limit that the user set leaves no room.
    case full
    /// The file or folder may not be written, or not be opened.
    case notPermitted
    /// No more may be written today.
    case writeLimit
    /// It belongs to another model, format or policy.
    case otherKind
    /// Another version of this program wrote it.
    case otherVersion
    /// It is something else.
    case notAContextFile
    /// Another process writes it.
    case busy
    /// The system reports a failure.
    case io
  }

  /// What kind of failure.
  public let code: Code
  /// Where: a path, with the segment where there are several.
  public let place: String
  /// What is wrong and, where there is one, the remedy.
  public let problem: String

  init(_ code: Code, _ place: String, _ problem: String) {
    self.code = code
    self.place = place
    self.problem = problem
  }

  /// An error of the system, from `errno`.
  /// - Parameter action: what could not be done, as "cannot be read".
  init(system number: Int32, _ place: String, _ action: String) {
    let text = unsafe strerror(number).map { unsafe String(cString: $0) } ?? "error \(number)"
    switch number {
    case ENOSPC, EDQUOT:
      self.init(.noSpace, place, "\(action): \(text); free space there, or choose another folder")
    case EROFS, EACCES, EPERM:
      self.init(.notPermitted, place, "\(action): \(text); grant access, or choose another folder")
    case ENOENT: self.init(.missing, place, "\(action): \(text)")
    case EMFILE, ENFILE:
      self.init(.io, place, "\(action): \(text); raise the limit of open files (ulimit -n)")
    default: self.init(.io, place, "\(action): \(text)")
    }
  }

  /// Bytes of a file that are not those that were written.
  static func damaged(_ place: String, _ what: String) -> KVFileError {
    KVFileError(.damaged, place, "\(what); the file is damaged")
  }

  /// What is wrong, where, and what to do.
  public var message: String { "\(place): \(problem)" }

  /// The text to show.
  public var description: String { message }
}

/// What became of looking for a segment.
public enum Lookup: Sendable {
  /// There is none.
  case absent
  /// It is there, and its header is right.
  case found(StoredSegment)
  /// What is there is not what was written, or cannot be read.
  case damaged(KVFileError)

  /// The segment, where one was found.
  public var segment: StoredSegment? {
    if case .found(let segment) = self { segment } else { nil }
  }
}
