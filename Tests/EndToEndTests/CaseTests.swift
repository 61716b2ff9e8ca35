// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPCPU
import HiPModelFiles
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

/// Where the cases lie.
private enum Cases {
  static let folder = DemoModel.packageFolder.appending(path: "../shared/cases")

  static let isThere: Bool = {
    let isThere = FileManager.default.fileExists(atPath: folder.path())
    if !isThere { print("Skipped: there are no cases at \(folder.path())") }
    return isThere
  }()
}

/// Small files after public bug reports; each shows what it is named after.
@Suite(.enabled(if: Cases.isThere)) struct CaseTests {

  private func load(_ name: String) async throws -> LanguageModel {
    try await LanguageModel.load(Cases.folder.appending(path: name).path()) {
      try CPUBackend(threads: 2)
    }
  }

  private func meanNLL(_ name: String) async throws -> Double {
    let model = try await load(name)
    let text = try String(contentsOf: Cases.folder.appending(path: "small.txt"), encoding: .utf8)
    let ids = try model.tokens(of: .text(text), atBeginning: true)
    let values = try await model.makeSession().negativeLogLikelihoods(of: ids)
    return values.reduce(0, +) / Double(values.count)
  }

  @Test(arguments: [
    ("tiny", 7.00740), ("rope_linear_typed", 6.98313), ("rope_factor_no_type", 6.98313),
    ("rope_scale_linear", 6.98313), ("kv_array", 7.00740), ("no_pre", 7.00740),
    ("split-00001-of-00002", 7.00740), ("split-00002-of-00002", 7.00740),
  ])
  func filesThatAreOneModelGiveOneValue(_ name: String, _ expected: Double) async throws {
    // Factors in bfloat16 change the fifth digit.
    #expect(abs(try await meanNLL(name + ".gguf") - expected) < 2e-4)
  }

  @Test func biasesAreApplied() async throws {
    #expect(abs(try await meanNLL("qkv_bias.gguf") - 7.0074) > 0.5)
  }

  @Test func aTensorWithoutARoleIsNamed() async throws {
    let error = await #expect(throws: (any Error).self) { try await load("qk_norm.gguf") }
    #expect("\(error.map { "\($0)" } ?? "")".contains("blk.0.attn_q_norm.weight"))
  }

  @Test func numbersThatAreNotFiniteEndTheAnswer() async throws {
    let session = try await load("nan.gguf").makeSession()
    let error = await #expect(throws: (any Error).self) {
      for try await _ in session.respond(to: GenerationRequest(.text("hi"))) {}
    }
    #expect("\(error.map { "\($0)" } ?? "")".contains("not finite"))
  }

  @Test func aModelOfTwoThousandTokensGetsABudgetThatFits() async throws {
    let session = try await load("ctx2048.gguf").makeSession()
    let reach = try #require(session.attention.reach)
    #expect(reach <= 2048 && reach > 1024)
  }

  @Test func markersInADocumentStayText() throws {
    let path = Cases.folder.appending(path: "markers_user_defined.gguf").path()
    let tokenizer = try ModelDescription.tokenizer(GGUFFile(path: path))
    let text = try String(contentsOf: Cases.folder.appending(path: "special.txt"), encoding: .utf8)
    let ids = tokenizer.encode(text, special: .text)
    #expect(!ids.contains { tokenizer.isControl($0) })
    #expect(tokenizer.decode(ids) == text)
    #expect(tokenizer.encode(text, special: .parse).contains { tokenizer.isControl($0) })
  }

  @Test func aTemplatesOwnOrderHolds() async throws {
    let template = try #require(try await load("reversed_template.gguf").chatTemplate)
    let pieces = try template.render(
      [ChatMessage(role: .user, content: "one")], openingAnswer: false)
    // What closes a turn elsewhere opens it here.
    #expect(pieces == [.control("<|im_end|>"), .text("one\nuser"), .control("<|im_start|>")])
  }

  @Test func whatIsAbsentIsSaid() async throws {
    #expect(try await load("no_pre.gguf").description.notices.contains { $0.contains("absent") })
  }

  @Test func aMissingPartIsNamed() async throws {
    let folder = URL.temporaryDirectory.appending(path: "parts-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let name = "split-00001-of-00002.gguf"
    try FileManager.default.copyItem(
      at: Cases.folder.appending(path: name), to: folder.appending(path: name))
    let error = #expect(throws: (any Error).self) {
      try GGUFFile(path: folder.appending(path: name).path())
    }
    #expect("\(error.map { "\($0)" } ?? "")".contains("split-00002-of-00002.gguf"))
  }
}
