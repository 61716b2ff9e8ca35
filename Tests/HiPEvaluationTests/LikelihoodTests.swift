// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPCPU
import HiPEvaluation
import HiPTensors
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

@Suite struct LikelihoodTests {
  private static func model() async throws -> LanguageModel {
    try await LanguageModel.load(DemoModel.path) { try CPUBackend() }
  }

  private static func folder() -> String {
    URL.temporaryDirectory.appending(path: "eval-\(UUID())").path(percentEncoded: false)
  }

  @Test func whatIsWrittenDenselyIsAsLikelyAsWhatIsRead() async throws {
    let model = try await Self.model()
    let ids = Array(
      try model.tokens(of: .text(DemoModel.novel(4000)), atBeginning: true).prefix(400))
    let dense = try #require(AttentionChoice.named("dense"))
    let read = try await model.makeSession(attention: dense).negativeLogLikelihoods(of: ids)
    let session = try await model.makeSession(attention: dense)
    let written = try await session.negativeLogLikelihoods(
      ofWriting: Array(ids[350...]), behind: Array(ids[..<350]))
    #expect(written.count == 49)
    // Steps of one row round otherwise than steps of many, whose factors may be rounded: of a token as much as `GoldenTests`
    // allow, 0.12 with matrix units.
    let allowed = CPUKernels.best.quantisedProductElement == .float32 ? 0.1 : 0.3
    for (value, other) in zip(written, read.suffix(49)) {
      #expect(abs(value - other) < allowed, "\(value) and \(other)")
    }
    let mean = zip(written, read.suffix(49)).reduce(0) { $0 + $1.0 - $1.1 } / 49
    #expect(abs(mean) < 0.02)
    #expect(session.tokenCount == 400)
    await #expect(throws: InfiniteHiPError.self) {
      try await session.negativeLogLikelihoods(ofWriting: [1], behind: [1])
    }
  }

  @Test func whatIsDictatedIsComputedAsWhatIsWritten() async throws {
    let model = try await Self.model()
    let ids = try model.tokens(of: .text(DemoModel.novel(5600)), atBeginning: true)
    // Few enough keys for a focus on passages.
    let policy = """
      {"version": 1, "preset": "infinitehip", "window": 256, "keep": 128, "dense": "nowhere"}
      """
    let document = try JSONDecoder().decode(AttentionChoice.Document.self, from: Data(policy.utf8))
    let choice = AttentionChoice(name: "small", policy: document.policy, dense: document.dense)
    let session = try await model.makeSession(attention: choice)
    let border = ids.count - 63
    for try await _ in session.respond(
      to: GenerationRequest(.tokens(Array(ids[..<border])), maximumTokens: 0))
    {}
    var request = GenerationRequest(.tokens(Array(ids[border...])), maximumTokens: 12)
    request.alternatives = 1
    request.endings = .none
    var written: [GeneratedToken.Choice] = []
    for try await event in try await session.fork().respond(to: request) {
      if case .token(let token) = event { written.append(token.choice) }
    }
    #expect(written.count == 12)
    let nll = try await session.fork().negativeLogLikelihoods(
      ofWriting: written.map(\.id), behind: Array(ids[border...]))
    #expect(nll.count == 11)
    for (value, choice) in zip(nll, written.dropFirst()) {
      #expect(abs(value + choice.logProbability) < 0.1, "\(value) and \(choice.logProbability)")
    }
  }

  private static func book(chapters: Int) -> String {
    (1...chapters).map { number in
      "CHAPTER \(number)\n\nThe \(number)th traveller came to the inn at dusk. He asked for a room, "
        + "for the horse had gone lame, and there was no other house for miles around.\n\n"
        + String(repeating: "The night was long and nobody slept. ", count: 12)
    }.joined(separator: "\n\n")
  }

  @Test func chaptersBeginWithTheirFirstSentences() async throws {
    let model = try await Self.model()
    let folder = Self.folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    // Contents name chapters that do not begin there.
    let text = "CONTENTS\n\nCHAPTER 1\n\nCHAPTER 2\n\n" + Self.book(chapters: 8)
    let runner = try LikelihoodRunner(model, text: text)
    let length = try model.tokens(of: .text(text), atBeginning: true).count
    func run(_ count: Int) async throws -> [LikelihoodRecord] {
      try await runner.run(
        .chapters(count: count), .automatic, length: length, samples: 1,
        records: RecordFile(folder: folder, name: "likelihoods")
      ) { _, _ in }
    }
    let records = try await run(4)
    #expect(records.count == 4)
    for record in records {
      #expect(record.written.hasPrefix("The "))
      #expect(
        record.written.hasSuffix("th traveller came to the inn at dusk."), "\(record.written)")
      #expect(record.nll.count > 5 && record.nll.allSatisfy { $0 >= 0 && $0.isFinite })
    }
    #expect(records.map(\.position) == records.map(\.position).sorted())
    let again = try await run(4)
    #expect(again.map(\.writeSeconds) == records.map(\.writeSeconds), "measured again")
    await #expect(throws: InfiniteHiPError.self) { try await run(20) }
  }

  @Test func continuationsAreComparedWithAFreshSelection() async throws {
    let model = try await Self.model()
    let folder = Self.folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let runner = try LikelihoodRunner(model, text: DemoModel.novel(4000))
    let choice = try #require(AttentionChoice.named("infinitehip"))
    let fresh = try #require(try choice.selectingFresh())
    #expect(fresh.name == "infinitehip, fresh")
    #expect(try fresh.selectingFresh() == nil)
    #expect(try AttentionChoice.named("streaming")?.selectingFresh() == nil)
    let preset = try #require(AttentionChoice.named("infinitehip-3k"))
    let paper = try #require(try preset.selectingFresh())
    guard case .hierarchical(let pruning) = paper.policy else {
      Issue.record("another policy")
      return
    }
    #expect(pruning.focus == nil && pruning.stages.allSatisfy { $0.refreshInterval == 1 })
    var all: [LikelihoodRecord] = []
    for choice in [choice, fresh] {
      all += try await runner.run(
        .continuation(tokens: 20), choice, length: 400, samples: 2,
        records: RecordFile(folder: folder, name: "likelihoods")
      ) { _, _ in }
    }
    #expect(all.map(\.nll.count) == [20, 20, 20, 20])
    #expect(all[0].position == 380 && all[0].text != all[1].text)
    let rows = LikelihoodReport(all).rows
    #expect(rows.map(\.policy) == ["infinitehip", "infinitehip, fresh"])
    #expect(rows[0].reference == "infinitehip, fresh" && rows[1].reference == nil)
    #expect(rows[0].tokens == 40 && rows[0].difference?.count == 40)
  }

  @Test func bootstrapIntervalsHoldTheMean() {
    let same = PairedBootstrap([Double](repeating: 0.25, count: 20))
    #expect(same.mean == 0.25 && same.low == 0.25 && same.high == 0.25 && same.excludesZero)
    let mixed = PairedBootstrap([1, -1, 1, -1, 1, -1, 1, -1])
    #expect(mixed.mean == 0 && mixed.low < 0 && mixed.high > 0 && !mixed.excludesZero)
    // The interval of a share is about two standard errors wide on each side.
    let share = PairedBootstrap((0..<100).map { $0 < 30 ? 1 : 0 })
    #expect(abs(share.low - 0.21) < 0.02 && abs(share.high - 0.39) < 0.02)
    #expect(PairedBootstrap((0..<100).map { $0 < 30 ? 1 : 0 }) == share)
    // Of groups the mean is that of all pairs.
    let groups = PairedBootstrap(groups: [[1, 1, 1], [0]])
    #expect(groups.mean == 0.75 && groups.low == 0 && groups.high == 1 && groups.count == 4)
    #expect(PairedBootstrap([]).count == 0)
  }
}
