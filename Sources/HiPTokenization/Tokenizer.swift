// SPDX-License-Identifier: Apache-2.0

/// The number of a token in a vocabulary.
public typealias TokenID = Int32

/// Text to tokens and back.
public protocol Tokenizer: Sendable {
  /// Number of tokens.
  var vocabularySize: Int { get }
  /// Ids of a text. No begin-of-text token is added.
  func encode(_ text: String, special: SpecialTokenReading) -> [TokenID]
  /// The bytes that a token stands for: part of a UTF-8 text, not always whole characters.
  func bytes(of token: TokenID) -> [UInt8]
  /// The id of the control token written so.
  func specialToken(_ text: String) -> TokenID?
  /// How the vocabulary's control tokens are written.
  var controlTokens: [String] { get }
  /// Whether the token is control, such as the end of a turn, and no text.
  func isControl(_ token: TokenID) -> Bool
  /// Whether the token takes the white space behind it.
  func stripsSpace(after token: TokenID) -> Bool
  /// Whether a space is put before each text: the first token's is none of the text's own.
  var prefixesSpace: Bool { get }
}

/// What to do with the names of control tokens that stand in a text.
public enum SpecialTokenReading: String, Sendable, Hashable, CaseIterable {
  /// They become the control tokens.
  case parse
  /// They are text like any other: what users write cannot control the model.
  case text
}

extension Tokenizer {
  /// White space stays.
  public func stripsSpace(after token: TokenID) -> Bool { false }

  /// No space is put before a text.
  public var prefixesSpace: Bool { false }

  /// The text of `tokens`.
  ///
  /// Bytes that are not UTF-8 become U+FFFD; control tokens are left out unless `keepingControl`.
  public func decode(_ tokens: [TokenID], keepingControl: Bool = false) -> String {
    let kept = keepingControl ? tokens : tokens.filter { !isControl($0) }
    let text = kept.flatMap { bytes(of: $0) }
    let hasPrefix = prefixesSpace && text.first == 0x20
    return String(decoding: text[(hasPrefix ? 1 : 0)...], as: UTF8.self)
  }
}

/// A tokenizer that cannot be built from its description, with the reason.
public struct TokenizerError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure, for callers that react to it.
  public enum Code: Sendable, Hashable {
    /// The description contradicts itself.
    case invalid
    /// No text could be written in its tokens.
    case unusable
  }

  /// What kind of failure.
  public let code: Code
  /// What is wrong.
  public let message: String
  /// What led to it, where something else failed first.
  public let cause: (any Error)?

  /// Creates an error.
  public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  /// The text to show.
  public var description: String { message }
}
