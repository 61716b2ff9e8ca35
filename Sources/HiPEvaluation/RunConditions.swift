// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPAttention
internal import InfiniteHiP

/// Version of what is computed: a change of numbers makes answers of before others.
private let version = 2

/// What an answer depends on besides its question: the model and all of the policy.
func runConditions(_ model: LanguageModel, _ choice: AttentionChoice) throws -> String {
  let encoder = JSONEncoder()
  encoder.outputFormatting = .sortedKeys
  let policy = try encoder.encode(AttentionChoice.Document(choice))
  let name = model.path.split(separator: "/").last.map(String.init) ?? ""
  return "\(version) \(name) \(model.weightByteCount) \(String(decoding: policy, as: UTF8.self))"
}

/// FNV-1a of a text, to tell texts apart.
func contentHash(_ text: String) -> String {
  var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
  return String(hash, radix: 16)
}
