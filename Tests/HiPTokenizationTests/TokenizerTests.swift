// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPModelFiles
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

@Suite struct TokenizerTests {
  private struct Golden: Decodable {
    struct Case: Decodable {
      let name: String
      let category: String
      let utf8_base64: String
      let ids: [TokenID]
      let ids_plain: [TokenID]

      var text: String {
        String(decoding: Data(base64Encoded: utf8_base64) ?? Data(), as: UTF8.self)
      }
    }
    let cases: [Case]
  }

  private let tokenizer: any Tokenizer
  private let golden: Golden

  init() throws {
    tokenizer = try ModelDescription.tokenizer(GGUFFile(path: DemoModel.path))
    let url = try #require(
      Bundle.module.url(forResource: "tokens", withExtension: "json", subdirectory: "Fixtures"))
    golden = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: url))
  }

  @Test func idsEqualThoseOfOtherImplementations() {
    #expect(golden.cases.count > 50)
    for item in golden.cases {
      #expect(
        tokenizer.encode(item.text, special: .parse) == item.ids, "\(item.name) \(item.category)")
      #expect(
        tokenizer.encode(item.text, special: .text) == item.ids_plain,
        "\(item.name) \(item.category), plain")
    }
  }

  @Test func decodingGivesTheBytesBack() {
    for item in golden.cases {
      let bytes = item.ids.flatMap { tokenizer.bytes(of: $0) }
      #expect(bytes == Array(item.text.utf8), "\(item.name)")
    }
  }

  @Test func everyTextComesBackWhole() {
    var numbers = SeededNumbers(3)
    for _ in 0..<200 {
      var scalars = String.UnicodeScalarView()
      for _ in 0..<numbers.index(below: 60) {
        let value = UInt32(
          numbers.index(below: [128, 0x500, 0x11000, 0x110000][numbers.index(below: 4)]))
        if let scalar = Unicode.Scalar(value) { scalars.append(scalar) }
      }
      let text = String(scalars)
      let bytes = tokenizer.encode(text, special: .text).flatMap { tokenizer.bytes(of: $0) }
      #expect(bytes == Array(text.utf8))
    }
  }

  @Test(.timeLimit(.minutes(1))) func aLongWordIsNotQuadratic() {
    let ids = tokenizer.encode(String(repeating: "abcdefgh", count: 40_000), special: .text)
    #expect(ids.count > 40_000)
  }

  @Test func whatUsersWriteIsNoControlToken() {
    let ids = tokenizer.encode("<|im_end|>", special: .text)
    #expect(!ids.contains { tokenizer.isControl($0) })
    #expect(tokenizer.decode(ids) == "<|im_end|>")
  }
}

@Suite struct IncrementalDecoderTests {
  @Test(arguments: ["héllo", "日本語", "😀👩‍👩‍👧", "a\u{301}b", "plain"])
  func neverEmitsHalfACharacter(_ text: String) {
    var decoder = IncrementalDecoder()
    var shown = ""
    for byte in text.utf8 {
      let piece = decoder.append([byte])
      #expect(!piece.unicodeScalars.contains("\u{fffd}"))
      shown += piece
    }
    shown += decoder.finish()
    #expect(Array(shown.utf8) == Array(text.utf8))
  }

  @Test(
    arguments: [
      [0xff], [0xc0, 0x80], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf5, 0x80], [0x80, 0x80],
      [0xe2, 0x82, 0x41],
    ] as [[UInt8]])
  func bytesThatAreNoTextDoNotHoldUpWhatFollows(_ bytes: [UInt8]) {
    var decoder = IncrementalDecoder()
    let shown = bytes.map { decoder.append([$0]) }.joined() + decoder.append(Array("x".utf8))
    #expect(shown.hasSuffix("x"))
    #expect(shown + decoder.finish() == String(decoding: bytes + Array("x".utf8), as: UTF8.self))
  }

  @Test func anUnfinishedCharacterShowsAtTheEnd() {
    var decoder = IncrementalDecoder()
    #expect(decoder.append([0xe2, 0x82]) == "")
    #expect(decoder.finish() == "\u{fffd}")
  }
}

@Suite struct PreTokenizerTests {
  private func words(_ text: String, _ rule: PreTokenizer) -> [String] {
    let bytes = Array(text.utf8)
    var words: [String] = []
    rule.forEachWord(bytes) { words.append(String(decoding: bytes[$0], as: UTF8.self)) }
    return words
  }

  /// As the patterns of the published tokenizers cut them.
  @Test(
    arguments: [
      (
        "It's 'RE 123  4", ["It", "'s", " '", "RE", " 123", " ", " 4"],
        ["It", "'s", " '", "RE", " ", "1", "2", "3", "  ", "4"]
      ),
      ("a  b\n\nc \t d", ["a", " ", " b", "\n", "\n", "c", " \t", " d"], nil),
      (" x!? é日1", [" x", "!?", " é日", "1"], nil),
      ("end  ", ["end", "  "], nil), ("\n1", ["\n", "1"], nil),
      (" 1 ", [" 1", " "], [" ", "1", " "]),
    ] as [(String, [String], [String]?)])
  func wordsOfGPT2(_ text: String, _ expected: [String], _ digits: [String]?) {
    #expect(words(text, .gpt2) == expected)
    #expect(words(text, .smolLM) == digits ?? expected)
  }

  @Test func bytesThatNoTokenStandsForAreLeftOut() throws {
    let tokenizer = try BytePairTokenizer(
      tokens: ["a", "b", "ab"], kinds: [], merges: ["a b"], preTokenizer: .smolLM)
    #expect(tokenizer.encode("ab\u{4}a!b", special: .text) == [2, 0, 1])
  }
}

@Suite struct ChatTemplateTests {
  static let plain = """
    {% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\\n' }}{% endif %}
    """

  @Test func plainChatMLIsRecognised() throws {
    #expect(try ChatTemplate(jinja: Self.plain) == .chatML)
  }

  @Test(arguments: [
    "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
    "{{ '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}" + plain,
    plain + "<think>", "", "{% for", "{{ '",
    // What is written is changed, or depends on something.
    plain.replacing("message['content']", with: "message['content'] | trim"),
    plain.replacing("message['content']", with: "message['content'].strip()"),
    plain.replacing("message['content']", with: "message['content'][::-1]"),
    plain.replacing("in messages", with: "in messages[1:]"),
  ])
  func othersAreRefused(_ jinja: String) {
    #expect(throws: TokenizerError.self) { try ChatTemplate(jinja: jinja) }
  }

  @Test func aConversationIsWrittenTurnByTurn() {
    let pieces = ChatTemplate.chatML.render(
      [ChatMessage(role: .user, content: "Hi")], openingAnswer: true)
    #expect(
      pieces == [
        .control("<|im_start|>"), .text("user\nHi"), .control("<|im_end|>"), .text("\n"),
        .control("<|im_start|>"), .text("assistant\n"),
      ])
  }
}
