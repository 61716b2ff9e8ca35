// SPDX-License-Identifier: Apache-2.0

internal import HiPTokenization

/// Tells the tokens that mark turns from those that stand for text.
enum TurnMarker {
  /// What a token is that its file calls a word or user-defined: control by its form, <|…|>; a marker where the chat
  /// template writes it, such as <think> and <tool_call>.
  static func kind(of token: String, _ kind: TokenKind, template: String) -> TokenKind {
    guard token.utf8.count >= 5, let first = token.utf8.first, first == 0x3c || first == 0x5b
    else { return kind }
    if token.hasPrefix("<|"), token.hasSuffix("|>") { return .control }
    if token.hasPrefix("<｜"), token.hasSuffix("｜>") { return .control }
    // Ordinary words of a vocabulary may stand in a template, too.
    return kind == .userDefined && template.contains(token) ? .marker : kind
  }
}
