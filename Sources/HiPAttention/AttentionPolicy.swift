// SPDX-License-Identifier: Apache-2.0

/// What a query may attend to.
public enum AttentionPolicy: Sendable, Hashable {
  /// Every earlier position, exactly.
  case dense
  /// Every earlier position, with the rotation slowed down for texts beyond the trained length.
  case stretched(RotaryStretch)
  /// The first and the most recent positions (StreamingLLM); what lies between is not read.
  case streaming(StreamingWindow)
  /// The most recent positions and those that drew the most attention (H2O); the others are evicted.
  case heavyHitters(HeavyHitters)
  /// Sink, window and the blocks that pruning stages select for every block of queries.
  case hierarchical(HierarchicalPruning)
}

/// The sink and the window of StreamingLLM (arXiv 2309.17453).
public struct StreamingWindow: Sendable, Hashable {
  /// Number of first positions that are always attended.
  public let sink: Int
  /// Number of last positions that are always attended, the query's own included.
  public let window: Int

  /// Checks and stores the two sizes.
  public init(sink: Int, window: Int) throws(PolicyError) {
    try checkCount(sink, "sink", atLeast: 0)
    try checkCount(window, "window", atLeast: 1)
    self.sink = sink
    self.window = window
  }
}

/// A policy that cannot be, with the reason and what would be allowed.
public struct PolicyError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure, for callers that react to it.
  public enum Code: Sendable, Hashable {
    /// A value that is not allowed, or does not go with the others.
    case value
    /// A policy file whose keys, or the kinds of their values, are not those of a policy.
    case format
  }

  /// What kind of failure.
  public let code: Code
  /// What is wrong and what would be allowed.
  public let message: String
  /// What led to it, where something else failed first.
  public let cause: (any Error)?

  /// Creates an error.
  public init(_ message: String, code: Code = .value, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  /// The text to show.
  public var description: String { message }
}
