// SPDX-License-Identifier: Apache-2.0

/// Why a device could not do what was asked.
public struct ComputeError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure.
  public enum Code: Sendable, Hashable {
    /// Memory ran out.
    case outOfMemory(neededBytes: Int)
    /// The device has no such operation for these shapes or element types.
    case unsupported
  }

  /// What kind of failure.
  public let code: Code
  /// What is wrong and what to do.
  public let message: String

  /// Creates an error.
  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  /// The text to show.
  public var description: String { message }
}
