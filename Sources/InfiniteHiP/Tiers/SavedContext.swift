// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPKVFiles

/// A text's keys and values in a file, for sessions to begin with.
public struct SavedContext: Sendable, Hashable {
  /// The file.
  public let path: String
  /// Tokens of the text.
  public let tokenCount: Int
  /// Bytes of the file.
  public let byteCount: Int
  /// Model, format and attention, one `key: value` per line.
  public let kind: String

  init(_ file: ContextFile) {
    path = file.path
    tokenCount = file.tokenCount
    let attributes = try? FileManager.default.attributesOfItem(atPath: file.path)
    byteCount = attributes?[.size] as? Int ?? 0
    kind = file.kind.description
  }
}
