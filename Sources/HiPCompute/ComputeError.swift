// SPDX-License-Identifier: Apache-2.0

public import HiPTensors

/// Why a device could not do what was asked.
public struct ComputeError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure, for callers that react to it.
  public enum Code: Sendable, Hashable {
    /// Memory ran out.
    case outOfMemory(neededBytes: Int)
    /// The device has no such operation for this policy, shape or format.
    case unsupported
    /// Numbers stopped being finite in this layer; nil: behind the last one.
    case notFinite(layer: Int?)
    /// A block in the tier below is not what was stored there.
    case damaged
    /// The tier below could not be read or written.
    case lowerTier
    /// The device itself failed.
    case device
  }

  /// What kind of failure.
  public let code: Code
  /// What is wrong and what to do.
  public let message: String
  /// What led to it, where something else failed first.
  public let cause: (any Error)?

  /// Creates an error.
  public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  /// Memory that the process could not get.
  public init(_ error: MemoryError) {
    self.init(.outOfMemory(neededBytes: error.byteCount), "\(error)", cause: error)
  }

  /// Working memory that a device could not get in the midst of a step.
  public init(missingByteCount: Int) { self.init(MemoryError(byteCount: missingByteCount)) }

  /// The text to show.
  public var description: String { message }
}
