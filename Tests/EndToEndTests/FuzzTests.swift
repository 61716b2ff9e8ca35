// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPJSON
import HiPModelFiles
import HiPModels
import HiPTemplates
import HiPTensors
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

/// Damaged files of every kind: they may be refused, but end no process.
///
/// 20,000 of them by default; INFINITEHIP_FUZZ names another number, as 1000000, and INFINITEHIP_FUZZ_SEED other ones.
@Suite(.serialized) struct FuzzTests {
  private static func number(_ name: String, _ fallback: Int) -> Int {
    ProcessInfo.processInfo.environment[name].flatMap { Int($0) } ?? fallback
  }

  private static let count = number("INFINITEHIP_FUZZ", 20_000)
  private static let seed = UInt64(number("INFINITEHIP_FUZZ_SEED", 1))

  /// Runs `body` on damaged copies of `sound`, on all cores.
  private func fuzz(
    _ sound: [[UInt8]], share: Int, words: [String] = [],
    _ body: @escaping @Sendable ([UInt8]) -> Void
  ) async {
    let count = max(1, Self.count / share)
    let workers = max(1, ProcessInfo.processInfo.activeProcessorCount)
    await withTaskGroup(of: Void.self) { group in
      for worker in 0..<workers {
        group.addTask {
          var mutator = Mutator(seed: Self.seed &* 1000 &+ UInt64(worker), words: words)
          for round in stride(from: worker, to: count, by: workers) {
            body(mutator.damaged(sound[round % sound.count]))
          }
        }
      }
    }
  }

  private static func memory(_ bytes: [UInt8]) throws -> MappedFile {
    try MappedFile(anonymous: "damaged", byteCount: max(1, bytes.count)) { memory in
      bytes.withUnsafeBytes { memory.copyMemory(from: $0) }
    }
  }

  @Test func damagedSafetensors() async throws {
    let header =
      #"{"a":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[32,40]},"__metadata__":{"format":"pt"}}"#
    var sound: [UInt8] = []
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { sound += $0 }
    sound += Array(header.utf8) + [UInt8](repeating: 7, count: 40)
    #expect(try SafetensorsFile(Self.memory(sound)).tensors.count == 2)
    await fuzz(
      [sound], share: 5, words: ["[0,32]", "18446744073709551615", "-1", "\"F8_E4M3\"", "{}", "[]"]
    ) { bytes in
      guard let file = try? SafetensorsFile(Self.memory(bytes)) else { return }
      for tensor in file.tensors {
        _ = Weight(
          name: tensor.name, element: tensor.element ?? .float32, rows: 1, columns: 0,
          bytes: tensor.bytes)
      }
    }
  }

  @Test func damagedTokenizers() async throws {
    let byteLevel = #"""
      {"added_tokens":[{"id":4,"content":"<|x|>","special":true}],"normalizer":{"type":"NFC"},
      "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":" ?\\p{L}+|\\s+(?!\\S)|[^a-z]{1,3}"},"behavior":"Isolated","invert":false},
      {"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},
      "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"\u0120":3},"merges":["a b"],"ignore_merges":true}}
      """#
    let pieces = #"""
      {"added_tokens":[],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
      "model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>","vocab":{"<unk>":0,"<0x41>":1,"▁":2,"a":3,"▁a":4},"merges":[["▁","a"]]}}
      """#
    let unigram =
      #"{"pre_tokenizer":{"type":"Metaspace","prepend_scheme":"first"},"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["▁a",-1.5],["a",-2]]}}"#
    let documents = [byteLevel, pieces, unigram].map { Array($0.utf8) }
    for document in documents { #expect(Self.encodes(document)) }
    await fuzz(
      documents, share: 4,
      words: [
        "\\\\p{L}", "(?!", ")*", "[^", "{9,99}", "null", "-1", "99999999999", "\"Unigram\"", "▁",
      ]
    ) { _ = Self.encodes($0) }
  }

  private static func encodes(_ document: [UInt8]) -> Bool {
    guard let json = try? JSONValue(document),
      let tokenizer = try? TokenizerDocument(json).tokenizer(
        kindOf: { $1 }, composed: { $0 })
    else { return false }
    let ids = tokenizer.encode("a ab Ab<|x|> \u{1f999} b  a\n", special: .parse)
    _ = tokenizer.decode(ids)
    return true
  }

  @Test func damagedSentencePieceModels() async throws {
    func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] {
      [number << 3 | 2, UInt8(bytes.count)] + bytes
    }
    func piece(_ text: String, _ kind: UInt8) -> [UInt8] {
      field(1, field(1, Array(text.utf8)) + [0x15, 0, 0, 0x80, 0xbf, 0x18, kind])
    }
    let model =
      piece("<unk>", 2) + piece("▁a", 1) + piece("a", 1) + piece("<0x0A>", 6) + field(2, [0x18, 2])
    #expect(try SentencePieceModel(model).tokenizer().vocabularySize == 4)
    await fuzz([model], share: 8) { bytes in
      guard let tokenizer = try? SentencePieceModel(bytes).tokenizer() else { return }
      _ = tokenizer.decode(tokenizer.encode("a b a\n\u{1f999}", special: .parse))
    }
  }

  @Test func damagedGGUFFiles() async throws {
    let demo = try Data(contentsOf: URL(filePath: DemoModel.path), options: .alwaysMapped)
    // What stands before the tokens, and a file of it alone.
    let key = try #require(demo.prefix(4000).firstRange(of: Data("tokenizer.ggml.tokens".utf8)))
    let header = Array(demo.prefix(key.lowerBound))
    await fuzz([header], share: 8) { bytes in
      guard let file = try? GGUFFile(Self.memory(bytes)) else { return }
      _ = try? ModelPlan(file)
    }
  }

  @Test func damagedFolders() async throws {
    let config = #"""
      {"model_type":"gemma3_text","hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,
      "num_key_value_heads":2,"head_dim":16,"vocab_size":32,"max_position_embeddings":128,"rms_norm_eps":1e-6,
      "sliding_window":16,"layer_types":["sliding_attention","full_attention"],"rope_theta":1e6,
      "rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32}}
      """#
    let others = [
      "llama", "phi3", "gpt_oss", "qwen3_moe", "granite", "smollm3", "exaone4", "olmo2",
    ].map {
      config.replacing("gemma3_text", with: $0).replacing(
        "\"yarn\"",
        with: $0 == "phi3"
          ? "\"longrope\",\"short_factor\":[1,1],\"long_factor\":[2,2]" : "\"llama3\"")
    }
    await fuzz(
      ([config] + others).map { Array($0.utf8) }, share: 4,
      words: [
        "null", "-1", "0", "1e308", "99999999999999", "\"linear\"", "[]", "{}", "true", "\"x\"",
      ]
    ) { bytes in
      let folder = URL.temporaryDirectory.appending(path: "fuzz-\(UUID())")
      defer { try? FileManager.default.removeItem(at: folder) }
      try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      try? Data(bytes).write(to: folder.appending(path: "config.json"))
      // An empty header: no tensor, which planning does not ask for.
      try? Data([2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d]).write(
        to: folder.appending(path: "model.safetensors"))
      guard let folder = try? HuggingFaceFolder(path: folder.path()) else { return }
      _ = try? ModelPlan(folder)
    }
  }

  /// Besides ending, no template takes more than 64 MB: asked where INFINITEHIP_FUZZ is set and this test runs
  /// alone, since the peak of a process counts whatever else is tested beside it.
  @Test func damagedTemplates() async throws {
    let plain = """
      {%- if tools %}{{ tools | tojson }}{% endif -%}
      {%- for message in messages -%}{%- set role = message['role'] | upper -%}
      {{- '<|im_start|>' ~ role + '\\n' + message.content.strip().replace('a', 'bb') + '<|im_end|>' -}}
      {%- if not loop.last and loop.index0 % 2 == 1 %}{{ '\\n' * 2 }}{% endif -%}
      {%- endfor -%}{%- macro f(x, y=3) -%}{{ x[:y] }}{{ x | join(', ') }}{%- endmacro -%}
      {{- f(['a', 'b', 'c'] + messages | map(attribute='role') | list) -}}
      {%- set ns = namespace(n=0) -%}{%- for i in range(10) -%}{%- set ns.n = ns.n + i -%}{%- endfor -%}
      {{- ns.n -}}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant' }}{%- endif -%}
      """
    let messages = try TemplateValue(
      json: #"[{"role":"user","content":" Where is it? "},{"role":"assistant","content":"a b"}]"#)
    MachineMemory.resetPeak()
    let before = MachineMemory.peakByteCount
    await fuzz(
      [Array(plain.utf8)], share: 2,
      words: [
        "{% for i in range(9999999) %}", "{{", "}}", "%}", "{%", "*99999999", "|join", "[::-1]",
        "**9", "dict(a=1)",
        "loop.", "-", "{% set x = x ~ x %}", "x*2", "|tojson", "|indent(9999)", "~", "{% endfor %}",
        "replace('','aaaaaaaa')",
      ]
    ) { bytes in
      guard let template = try? Template(String(decoding: bytes, as: UTF8.self)) else { return }
      _ = try? template.render(
        [("messages", messages), ("add_generation_prompt", .flag(true))],
        clock: TemplateClock(year: 2026, month: 1, day: 2))
    }
    guard ProcessInfo.processInfo.environment["INFINITEHIP_FUZZ"] != nil else { return }
    let workers = max(1, ProcessInfo.processInfo.activeProcessorCount)
    let more = MachineMemory.peakByteCount - before
    #expect(more < workers * 64 << 20, "\(more >> 20) MB for \(workers) templates at a time")
  }
}

/// Damages bytes: bits, cuts, copies, and words that mean something.
private struct Mutator {
  private var numbers: SeededNumbers
  private let words: [[UInt8]]

  init(seed: UInt64, words: [String]) {
    numbers = SeededNumbers(seed)
    self.words = words.map { Array($0.utf8) }
  }

  mutating func damaged(_ sound: [UInt8]) -> [UInt8] {
    var bytes = sound
    for _ in 0...numbers.index(below: 5) {
      guard !bytes.isEmpty else { break }
      let place = numbers.index(below: bytes.count)
      switch numbers.index(below: 7) {
      case 0: bytes[place] ^= UInt8(1 << numbers.index(below: 8))
      case 1: bytes[place] = UInt8(numbers.index(below: 256))
      case 2: bytes.removeSubrange(place..<min(bytes.count, place + 1 + numbers.index(below: 20)))
      case 3:
        let from = numbers.index(below: bytes.count)
        bytes.insert(
          contentsOf: bytes[from..<min(bytes.count, from + 1 + numbers.index(below: 40))], at: place
        )
      case 4 where !words.isEmpty:
        bytes.insert(contentsOf: words[numbers.index(below: words.count)], at: place)
      case 5: bytes.removeSubrange(place...)
      default:
        // Numbers at the edges, as binary formats have them.
        for offset in 0..<[1, 2, 4, 8][numbers.index(below: 4)] where place + offset < bytes.count {
          bytes[place + offset] = [0, 0xff, 0x7f, 0x80][numbers.index(below: 4)]
        }
      }
    }
    return bytes
  }
}
