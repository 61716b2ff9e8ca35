// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPCPU
import InfiniteHiP
import TestSupport
import Testing

/// Damaged model files all the way to a loaded model.
@Suite struct HostileModelTests {
  /// A file that begins with `header` and has the demo model's length, its weights all zero.
  private func load(_ header: [UInt8], length: UInt64) async throws -> LanguageModel {
    let url = URL.temporaryDirectory.appending(path: "\(UUID()).gguf")
    try Data(header).write(to: url)
    defer { try? FileManager.default.removeItem(at: url) }
    let file = try FileHandle(forUpdating: url)
    try file.truncate(atOffset: length)
    try file.close()
    return try await LanguageModel.load(url.path(percentEncoded: false)) {
      try CPUBackend(threads: 1)
    }
  }

  @Test func damageAnywhereInTheHeaderIsAnErrorOrHarmless() async throws {
    let demo = try Data(contentsOf: URL(filePath: DemoModel.path), options: .alwaysMapped)
    let header = Array(demo.prefix(400_000))
    _ = try await load(header, length: UInt64(demo.count))
    var numbers = SeededNumbers(12)
    var refused = 0
    for round in 0..<120 {
      var damaged = header
      // The first kilobyte holds the architecture, the rest the tokenizer and the tensors.
      let place = numbers.index(below: round % 2 == 0 ? 1000 : 280_000)
      damaged[place] ^= UInt8(1 << numbers.index(below: 8))
      do { _ = try await load(damaged, length: UInt64(demo.count)) } catch { refused += 1 }
    }
    #expect(refused > 20)
  }

  @Test(
    arguments: [
      ("llama.attention.head_count", 128), ("llama.attention.key_length", 0),
      ("llama.attention.head_count", 3), ("llama.embedding_length", 0),
      ("llama.feed_forward_length", 1 << 24), ("llama.block_count", 9),
      ("llama.rope.dimension_count", 7), ("llama.vocab_size", 5), ("llama.context_length", 0),
    ] as [(String, UInt32)])
  func wrongNumbersAreRefused(_ key: String, _ value: UInt32) async throws {
    let demo = try Data(contentsOf: URL(filePath: DemoModel.path), options: .alwaysMapped)
    var header = Array(demo.prefix(400_000))
    let range = try #require(demo.prefix(2000).firstRange(of: Data(key.utf8) + [4, 0, 0, 0]))
    withUnsafeBytes(of: value.littleEndian) {
      header.replaceSubrange(range.upperBound..<range.upperBound + 4, with: $0)
    }
    // The vocabulary's size follows from its tokens.
    if key == "llama.vocab_size" {
      _ = try await load(header, length: UInt64(demo.count))
    } else {
      await #expect(throws: (any Error).self) { try await load(header, length: UInt64(demo.count)) }
    }
  }
}
