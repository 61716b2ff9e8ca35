// SPDX-License-Identifier: Apache-2.0

internal import Foundation
package import HiPModelFiles
package import HiPTemplates
package import HiPTokenization

/// How a model reads and writes text, as its files have it.
package struct ModelText {
  package var tokenizer: any Tokenizer
  /// What a text begins with, and what ends it, where the files say so.
  package var begin, end: TokenID?
  /// Whether texts begin with `begin`.
  package var addsBegin = false
  /// Tokens that end an answer.
  package var ends: Set<TokenID> = []
  /// What the files leave unsaid, and what was taken instead.
  package var notices: [String] = []
  /// The chat template.
  package var template: String?

  /// Names of tokens that end a turn or a text, whatever else ends them.
  private static let usualEnds = [
    "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<|eom_id|>",
    "<end_of_turn>", "<|return|>", "<|call|>", "[|endofturn|]", "<|end_of_turn|>",
    "<｜end▁of▁sentence｜>", "<EOT>", "<|EOT|>",
  ]

  /// Reads what a file or folder says.
  package init(_ file: ModelFile) throws {
    switch file {
    case .gguf(let file): try self.init(file)
    case .folder(let folder): try self.init(folder)
    }
  }

  /// How a token is written; nil for none.
  package func name(_ token: TokenID?) -> String? {
    token.map { String(decoding: tokenizer.bytes(of: $0), as: UTF8.self) }
  }

  /// Tokens of the vocabulary that end a turn or a text under the usual names.
  func endsByName() -> [TokenID] {
    Self.usualEnds.compactMap { tokenizer.specialToken($0) }
  }
}

extension TemplateClock {
  /// The time here.
  package static var now: TemplateClock {
    let parts = Calendar(identifier: .gregorian).dateComponents(
      [.year, .month, .day, .hour, .minute, .second], from: Date())
    return TemplateClock(
      year: parts.year ?? 1970, month: parts.month ?? 1, day: parts.day ?? 1,
      hour: parts.hour ?? 0, minute: parts.minute ?? 0, second: parts.second ?? 0)
  }
}
