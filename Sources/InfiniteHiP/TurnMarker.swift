// SPDX-License-Identifier: Apache-2.0

internal import HiPTokenization

/// Tells the tokens that mark turns from those that stand for text.
enum TurnMarker {
  /// Whether a token that its file does not call control is a marker all the same: by its form, <|…|>, or because
  /// the chat template writes it.
  static func isMarker(_ token: String, _ kind: TokenKind, template: String) -> Bool {
    guard token.utf8.count >= 5, let first = token.utf8.first, first == 0x3c || first == 0x5b
    else { return false }
    if token.hasPrefix("<|"), token.hasSuffix("|>") { return true }
    if token.hasPrefix("<｜"), token.hasSuffix("｜>") { return true }
    // Ordinary words of a vocabulary may stand in a template, too.
    return kind == .userDefined && template.contains(token)
  }
}
