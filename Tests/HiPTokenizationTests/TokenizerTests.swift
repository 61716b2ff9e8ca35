// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPJSON
import HiPModelFiles
import HiPTemplates
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
    let ids = tokenizer.encode(
      String(repeating: "abcdefgh", count: 40_000 / debugDivisor), special: .text)
    #expect(ids.count > 40_000 / debugDivisor)
  }

  @Test func whatUsersWriteIsNoControlToken() {
    let ids = tokenizer.encode("<|im_end|>", special: .text)
    #expect(!ids.contains { tokenizer.isControl($0) })
    #expect(tokenizer.decode(ids) == "<|im_end|>")
  }
}

/// tokenizer.json against the GGUF files of the same tiny models.
@Suite struct TokenizerDocumentTests {
  static let folder = DemoModel.packageFolder.appending(path: "../shared/golden/families")

  static let names: [String] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path())) ?? []
    let found = names.sorted().filter {
      FileManager.default.fileExists(atPath: folder.appending(path: "\($0)/\($0).gguf").path())
    }
    if found.isEmpty { print("Skipped: there are no golden models at \(folder.path())") }
    return found
  }()

  @Test(arguments: names)
  func idsEqualThoseOfTheGGUFFile(_ name: String) throws {
    let folder = Self.folder.appending(path: name)
    let file = try ModelText(.gguf(GGUFFile(path: folder.appending(path: "\(name).gguf").path())))
    let document = try ModelText(
      .folder(HuggingFaceFolder(path: folder.appending(path: "hf").path())))
    #expect(document.ends == file.ends && document.begin == file.begin)
    #expect(document.addsBegin == file.addsBegin)
    for text in try [
      DemoModel.novel(20_000 / debugDivisor), "a<|im_start|>b 12345 \n\n  é日🦙 don't", "",
    ] {
      for special in SpecialTokenReading.allCases {
        #expect(
          document.tokenizer.encode(text, special: special)
            == file.tokenizer.encode(text, special: special))
      }
    }
  }

  /// As Llama 2's and Gemma's documents are built.
  @Test func piecesFollowTheScoresOfTheirMerges() throws {
    let json = #"""
      {"added_tokens":[{"id":1,"content":"<s>","special":true},{"id":9,"content":"<tag>","special":false}],
      "normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},
      {"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
      "model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>",
      "vocab":{"<unk>":0,"<s>":1,"<0xC3>":2,"<0xA9>":3,"▁":4,"a":5,"b":6,"▁a":7,"ab":8},"merges":["a b","▁ a"]}}
      """#
    let tokenizer = try TokenizerDocument(JSONValue(Array(json.utf8))).tokenizer(
      kindOf: { $1 }, composed: { $0 })
    // The earlier merge wins.
    #expect(tokenizer.encode("ab a", special: .text) == [4, 8, 7])
    #expect(tokenizer.encode("é", special: .text) == [4, 2, 3])
    #expect(tokenizer.encode("<s>a<tag>", special: .text) == [4, 0, 0, 0, 5, 9])
    #expect(tokenizer.encode("<s>a<tag>", special: .parse) == [1, 7, 9])
    #expect(tokenizer.decode([4, 8, 7, 2, 3]) == "ab aé")
  }

  /// What a template writes around thoughts and calls shows in answers, and no text that is read becomes it.
  @Test func markersAreTextWhereAModelWritesThem() throws {
    let json = #"""
      {"added_tokens":[{"id":3,"content":"<think>","special":false},{"id":4,"content":"<tag>","special":false},
      {"id":5,"content":"<|end|>","special":true,"rstrip":true}],
      "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
      "model":{"type":"BPE","vocab":{"a":0,"<":1,">":2},"merges":[]}}
      """#
    let tokenizer = try TokenizerDocument(JSONValue(Array(json.utf8))).tokenizer(
      kindOf: { $0 == "<think>" ? .marker : $1 }, composed: { $0 })
    #expect(!tokenizer.isControl(3) && tokenizer.isControl(5))
    #expect(!tokenizer.encode("<think>a", special: .text).contains(3))
    #expect(tokenizer.encode("<think>a<tag>", special: .parse) == [3, 0, 4])
    #expect(tokenizer.encode("a<tag>", special: .text) == [0, 4])
    #expect(tokenizer.decode([3, 0]) == "<think>a")
    #expect(tokenizer.controlTokens.contains("<think>"))
    // White space behind a token that takes it.
    #expect(tokenizer.encode("<|end|> \n a", special: .parse) == [5, 0])
    #expect(try tokenizer.encode([.control("<|end|>"), .text("\na")]) == [5, 0])
  }

  @Test(arguments: [
    #"{"model":{"type":"BPE","vocab":{"a":9223372036854775807},"merges":[]}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}"#,
    #"{"model":{"type":"WordPiece","vocab":{"a":0}}}"#, "{}", "[]", "null",
  ])
  func documentsThatAreNoTokenizerAreRefused(_ json: String) throws {
    #expect(throws: TokenizerError.self) {
      try TokenizerDocument(JSONValue(Array(json.utf8))).tokenizer(
        kindOf: { $1 }, composed: { $0 })
    }
  }

  @Test func unigramPiecesAddUpToTheMost() throws {
    let json =
      #"{"pre_tokenizer":{"type":"Metaspace","prepend_scheme":"always"},"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["▁",-2],["▁h",-3],["he",-2.5],["l",-3],["ll",-4],["o",-3],["llo",-9],["▁he",-3.1]]}}"#
    let tokenizer = try TokenizerDocument(JSONValue(Array(json.utf8))).tokenizer(
      kindOf: { $1 }, composed: { $0 })
    #expect(tokenizer.encode("hello x", special: .text) == [8, 5, 6, 1, 0])
  }
}

/// Vocabularies of published models, and what llama.cpp makes of texts in them.
@Suite struct GoldenVocabularyTests {
  static let folder = DemoModel.packageFolder.appending(path: "../shared/golden/vocabs")

  static let names: [String] = {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path())) ?? []
    let found = files.filter { $0.hasSuffix(".gguf") }.sorted()
    if found.isEmpty { print("Skipped: there are no golden vocabularies at \(folder.path())") }
    return found
  }()

  @Test(arguments: names)
  func idsEqualThoseOfLlamaCpp(_ name: String) throws {
    let path = Self.folder.appending(path: name).path()
    let tokenizer = try ModelDescription.tokenizer(GGUFFile(path: path))
    let inputs = try String(contentsOfFile: path + ".inp", encoding: .utf8)
      .components(separatedBy: "\n__ggml_vocab_test__\n")
    let outputs = try String(contentsOfFile: path + ".out", encoding: .utf8)
      .components(separatedBy: "\n")
    #expect(inputs.count > 40 && outputs.count >= inputs.count)
    for (input, output) in zip(inputs, outputs) {
      let expected = output.split(separator: " ").compactMap { TokenID($0) }
      #expect(
        tokenizer.encode(input, special: .text) == expected, "\(input.debugDescription)")
    }
  }

  @Test(.timeLimit(.minutes(1)), arguments: names)
  func longRunsAreNotQuadratic(_ name: String) throws {
    let tokenizer = try ModelDescription.tokenizer(
      GGUFFile(path: Self.folder.appending(path: name).path()))
    for character in ["a", " ", "<", "日"] {
      let text = String(repeating: character, count: 200_000 / debugDivisor)
      let ids = tokenizer.encode(text, special: .text)
      #expect(tokenizer.decode(ids) == text, "\(character)")
    }
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
  func wordsOfGPT2(_ text: String, _ expected: [String], _ digits: [String]?) throws {
    #expect(words(text, try named("gpt-2")) == expected)
    #expect(words(text, try named("smollm")) == digits ?? expected)
  }

  private func named(_ name: String) throws -> PreTokenizer {
    try #require(try PreTokenizer(name: name))
  }

  /// What is cut by hand is cut as the pattern says it.
  @Test(arguments: ["gpt-2", "smollm", "llama-bpe", "qwen2"])
  func scannersEqualTheirPatterns(_ name: String) throws {
    let (fast, slow) = (try named(name), try PreTokenizer(slowly: name))
    var numbers = SeededNumbers(17)
    let alphabet = Array("aZé日१² \t\n\r'sSrevmlLd!?.-_12345\u{a0}\u{2003}🦙ß\u{301}")
    for _ in 0..<3000 / debugDivisor {
      let text = String(
        (0..<numbers.index(below: 24)).map { _ in alphabet[numbers.index(below: alphabet.count)] })
      #expect(words(text, fast) == words(text, slow), "\(text.debugDescription)")
    }
    let novel = try DemoModel.novel(20_000 / debugDivisor)
    #expect(words(novel, fast) == words(novel, slow))
  }

  @Test(
    arguments: [
      (
        "tekken", "HELLOworld iPhone's 12/3\n",
        ["HELLOworld", " i", "Phone", "'s", " ", "1", "2", "/", "3", "\n"]
      ),
      ("gpt-4o", "HELLOworld's XMLFile 1234", ["HELLOworld's", " XMLFile", " ", "123", "4"]),
      ("deepseek-v3", "a日本1234 ;x", ["a", "日本", "123", "4", " ;", "x"]),
      ("deepseek-coder", "ab!? 12\n", ["ab", "!?", " ", "1", "2", "\n"]),
      ("bloom", "ab, cd!", ["ab", ",", " cd", "!"]),
    ] as [(String, String, [String])])
  func wordsOfOtherPatterns(_ name: String, _ text: String, _ expected: [String]) throws {
    #expect(words(text, try named(name)) == expected)
  }

  @Test(arguments: [
    "(ab)+", "a*?", "(?<=a)b", "\\q", "[a", "(a", "a)", "\\p{Klingon}", "x{3,1}", "*",
  ])
  func patternsThatAreNotSupportedAreErrors(_ pattern: String) {
    #expect(throws: TokenizerError.self) { try PreTokenizer(patterns: [pattern]) }
  }

  /// A pattern that could be matched in very many ways ends, and so does one with very many characters.
  @Test(.timeLimit(.minutes(1))) func hostilePatternsEnd() throws {
    let text = String(repeating: "a", count: 400 / debugDivisor)
    let slow = try PreTokenizer(patterns: [String(repeating: #"\p{L}*"#, count: 6) + #"\d"#])
    #expect(words(text, slow).joined() == text)
    var wide = String.UnicodeScalarView()
    for value in UInt32(0x4e00)..<0x9000 {
      if let scalar = Unicode.Scalar(value) { wide.append(scalar) }
    }
    #expect(
      words("一a", try PreTokenizer(patterns: ["[\(String(wide.prefix(20_000)))]+"])) == ["一", "a"])
    #expect(throws: TokenizerError.self) {
      try PreTokenizer(patterns: ["[\(String(repeating: "一", count: 120_000))]"])
    }
  }

  /// One character, again and again: every rule ends in time that grows with the length.
  @Test(
    .timeLimit(.minutes(1)),
    arguments: ["gpt-2", "tekken", "gpt-4o", "deepseek-v3", "deepseek-llm", "falcon"])
  func longRunsAreNotQuadratic(_ name: String) throws {
    let rule = try named(name)
    for character in ["a", "A", " ", "\n", "1", "!", "日"] {
      let text = Array(String(repeating: character, count: 60_000 / debugDivisor).utf8)
      var length = 0
      rule.forEachWord(text) { length += $0.count }
      #expect(length == text.count)
    }
  }

  @Test func bytesThatNoTokenStandsForAreLeftOut() throws {
    let tokenizer = try BytePairTokenizer(
      tokens: ["a", "b", "ab"], kinds: [], merges: ["a b"], preTokenizer: named("smollm"))
    #expect(tokenizer.encode("ab\u{4}a!b", special: .text) == [2, 0, 1])
  }
}

@Suite struct ChatTemplateTests {
  static let plain = """
    {% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\\n' }}{% endif %}
    """
  static let question = [ChatMessage(role: .user, content: "Hi")]

  private func template(_ jinja: String) throws -> ChatTemplate {
    try ChatTemplate(
      .jinja(Template(jinja)), controlTokens: ["<|im_start|>", "<|im_end|>", "<s>"], begin: "<s>",
      end: nil,
      clock: TemplateClock(year: 2026, month: 1, day: 2))
  }

  @Test func aConversationIsWrittenTurnByTurn() throws {
    #expect(
      try template(Self.plain).render(Self.question, openingAnswer: true) == [
        .control("<|im_start|>"), .text("user\nHi"), .control("<|im_end|>"), .text("\n"),
        .control("<|im_start|>"), .text("assistant\n"),
      ])
  }

  @Test func whatAMessageHoldsIsNoControlToken() throws {
    let pieces = try template(Self.plain).render(
      [ChatMessage(role: .user, content: "<|im_end|>")], openingAnswer: false)
    #expect(
      pieces == [
        .control("<|im_start|>"), .text("user\n<|im_end|>"), .control("<|im_end|>"), .text("\n"),
      ])
  }

  @Test func whatTheTemplateWritesBesidesIsKept() throws {
    let jinja = "{{ bos_token }}<|im_start|>system\nYou are kind.<|im_end|>" + Self.plain
    let pieces = try template(jinja).render(Self.question, openingAnswer: false)
    #expect(
      pieces.prefix(4) == [
        .control("<s>"), .control("<|im_start|>"), .text("system\nYou are kind."),
        .control("<|im_end|>"),
      ])
  }

  @Test(arguments: [
    ("message['content'] | trim", "Hi"), ("message['content'].strip()", "Hi"),
    ("message['content'][::-1]", " iH "),
  ])
  func whatTheTemplateChangesIsChanged(_ expression: String, _ written: String) throws {
    let jinja = Self.plain.replacing("message['content']", with: expression)
    let pieces = try template(jinja).render(
      [ChatMessage(role: .user, content: " Hi ")], openingAnswer: false)
    #expect(pieces.contains(.text("user\n" + written)))
  }

  @Test func theFrameStandsAroundAMessage() throws {
    let frame = try template(Self.plain).frame
    #expect(frame.opening == [.control("<|im_start|>"), .text("user\n")])
    #expect(
      frame.closing == [
        .control("<|im_end|>"), .text("\n"), .control("<|im_start|>"), .text("assistant\n"),
      ])
    #expect(
      frame.reopening == [
        .control("<|im_end|>"), .text("\n"), .control("<|im_start|>"), .text("user\n"),
      ])
  }

  @Test(arguments: ["", "{% for", "{{ '", "{% for m in messages %}{% endfor %}"])
  func templatesThatWriteNoQuestionAreRefused(_ jinja: String) {
    #expect(throws: TemplateError.self) { try template(jinja) }
  }

  @Test func aRefusalIsInTheTemplatesOwnWords() throws {
    let jinja =
      "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
      + Self.plain
    let error = #expect(throws: TemplateError.self) {
      try template(jinja).render(
        [ChatMessage(role: .system, content: "Be kind")], openingAnswer: true)
    }
    #expect(error?.description.contains("no system turns") == true)
  }
}
