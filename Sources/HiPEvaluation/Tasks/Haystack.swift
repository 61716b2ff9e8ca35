// SPDX-License-Identifier: Apache-2.0

public import HiPTokenization

/// A long text with facts hidden in it at even depths.
public struct Haystack: Sendable {
  /// The text.
  public let text: String

  /// Takes as much of `novel` as gives `tokenCount` tokens together with the facts, and puts each
  /// fact behind the sentence that ends nearest to its place.
  ///
  /// A novel that is too short is repeated.
  public init(novel: String, facts: [HiddenFact], tokenCount: Int, tokenizer: any Tokenizer) {
    let sentences = facts.map { " " + $0.sentence }
    let needed = sentences.reduce(0) { $0 + tokenizer.encode($1, special: .text).count }
    var ids = tokenizer.encode(novel, special: .text)
    while ids.count < tokenCount, !ids.isEmpty { ids += ids }
    let kept = ids.prefix(max(0, tokenCount - needed))
    let bytes = kept.flatMap { tokenizer.bytes(of: $0) }
    var result: [UInt8] = []
    var start = 0
    for (index, sentence) in sentences.enumerated() {
      let place = bytes.count * (2 * index + 1) / (2 * sentences.count)
      let end = Self.sentenceEnd(in: bytes, near: place, from: start)
      result += bytes[start..<end]
      result += sentence.utf8
      start = end
    }
    result += bytes[start...]
    // The cut may fall into a character; what is left of it is dropped.
    while let last = result.last, last & 0xc0 == 0x80 || last >= 0xc0 {
      if String(validating: result, as: UTF8.self) != nil { break }
      result.removeLast()
    }
    text = String(decoding: result, as: UTF8.self)
  }

  /// One past the full stop nearest after `place` that a space or line end follows.
  private static func sentenceEnd(in bytes: [UInt8], near place: Int, from start: Int) -> Int {
    var index = max(place, start + 1)
    while index < bytes.count {
      if bytes[index - 1] == 0x2e, bytes[index] == 0x20 || bytes[index] == 0x0a { return index }
      index += 1
    }
    return bytes.count
  }
}
