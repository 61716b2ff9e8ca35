// SPDX-License-Identifier: Apache-2.0

/// A file that cannot be used.
public struct FileError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure, for callers that react to it.
  public enum Code: Sendable, Hashable {
    /// There is no such file.
    case missing
    /// It is there, but cannot be opened or read.
    case unreadable
    /// It cannot be written.
    case unwritable
    /// It is damaged, or its parts contradict each other.
    case invalid
    /// It is in order, but needs something that this product lacks.
    case unsupported
  }

  /// What kind of failure.
  public let code: Code
  /// The file.
  public let path: String
  /// What is wrong with it and, where there is one, the remedy.
  public let problem: String
  /// What led to it, where something else failed first.
  public let cause: (any Error)?

  /// Creates an error about the file at `path`.
  public init(
    _ code: Code = .invalid, path: String, problem: String, cause: (any Error)? = nil
  ) {
    self.code = code
    self.path = path
    self.problem = problem
    self.cause = cause
  }

  /// What is wrong, where, and what to do.
  public var message: String { "\(path): \(problem)" }

  /// The text to show.
  public var description: String { message }
}
