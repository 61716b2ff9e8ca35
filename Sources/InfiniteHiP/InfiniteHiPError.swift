// SPDX-License-Identifier: Apache-2.0

/// Why a request cannot be served.
public struct InfiniteHiPError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure, for callers that react to it.
  public enum Code: Sendable, Hashable {
    /// The model file cannot be used.
    case model
    /// The request is impossible as it stands.
    case request
    /// Prompt and answer do not fit into the context.
    case contextExceeded(needed: Int, limit: Int)
    /// The keys and values would not fit into memory.
    case outOfMemory(neededBytes: Int, physicalBytes: Int)
    /// The session is answering another request.
    case busy
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
