// SPDX-License-Identifier: Apache-2.0

/// Why a grammar cannot be built.
public struct GrammarError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The kinds of failure.
  public enum Code: Sendable, Hashable {
    /// The schema asks for something that this module does not do.
    case unsupported
    /// The schema is no JSON schema.
    case invalid
    /// No text satisfies the schema.
    case unsatisfiable
    /// The compiled grammar would be too large.
    case tooLarge
  }

  /// The kind of failure.
  public let code: Code
  /// Where in the schema, as in `#/properties/a`.
  public let path: String
  /// What is wrong, and what to do.
  public let message: String

  /// The text to show.
  public var description: String { "the schema cannot be used at \(path): \(message)" }

  init(_ code: Code, at path: String, _ message: String) {
    self.code = code
    self.path = path
    self.message = message
  }
}
