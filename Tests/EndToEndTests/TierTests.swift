// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPCPU
import HiPModels
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

/// Keys and values in little memory over files: answers are those of memory alone, to the bit.
@Suite(.serialized) struct TierTests {
  static let choices = [
    AttentionChoice.named("infinitehip"), .named("infinitehip-3k"), .named("h2o"),
    .named("dense-dynamic"), SessionTests.shared, SessionTests.focused,
  ].compactMap { $0 }

  /// About half of what 5,000 tokens of the demo model take, and the least that a step needs.
  static let (half, least) = (17 << 20, 14 << 20)

  /// A folder of a test's own, which goes with it.
  final class TemporaryFolder {
    let path = NSTemporaryDirectory() + "tier-\(UUID())"
    deinit { try? FileManager.default.removeItem(atPath: path) }
    var files: [String] {
      (FileManager.default.enumerator(atPath: path)?.allObjects as? [String] ?? []).sorted()
    }
    var segments: [String] {
      files.filter { $0.hasSuffix(".segment") }.map { path + "/" + $0 }
    }
  }

  private func load(_ tiers: KVTiers? = nil) async throws -> LanguageModel {
    try await LanguageModel.load(DemoModel.path, tiers: tiers) { try CPUBackend(threads: 2) }
  }

  private func tiers(_ memory: Int, _ folder: String?) -> KVTiers {
    KVTiers(memoryByteCount: memory, folder: folder, diskByteCount: 1 << 30)
  }

  /// What a session answers, with probabilities.
  private func answer(
    _ session: Session, _ ids: [TokenID], count: Int = 8
  ) async throws -> (tokens: [GeneratedToken], end: Completion) {
    var request = GenerationRequest(.tokens(ids), maximumTokens: count)
    request.alternatives = 3
    request.endings = .none
    var tokens: [GeneratedToken] = []
    for try await event in session.respond(to: request) {
      switch event {
      case .token(let token): tokens.append(token)
      case .finished(let end): return (tokens, end)
      case .progress, .text: break
      }
    }
    throw CancellationError()
  }

  private func novel(_ count: Int) async throws -> [TokenID] {
    let model = try await load()
    let ids = try model.tokens(of: .text(DemoModel.novel(count * 5)), atBeginning: true)
    return Array(ids.prefix(count))
  }

  @Test(arguments: choices)
  func answersAreTheSame(_ choice: AttentionChoice) async throws {
    let ids = try await novel(4600)
    let plain = try await load()
    let expected = try await answer(plain.makeSession(attention: choice), ids).tokens
    let folder = TemporaryFolder()
    // What leaves memory only, what others may begin with, and what begins with that.
    for sharing in [PrefixSharing.none, .shared, .shared] {
      let model = try await load(tiers(Self.least, folder.path))
      let session = try await model.makeSession(attention: choice, prefixes: sharing)
      let (tokens, end) = try await answer(session, ids)
      #expect(tokens == expected, "\(choice.name), \(sharing), \(end.cachedTokens) cached")
      #expect(end.notices.isEmpty)
      let statistics = try #require(try await model.tierStatistics())
      #expect(statistics.memoryByteCount <= Self.least)
      if sharing == .none { #expect(statistics.bytesWritten > 0) }
      await model.settleTiers()
    }
    #expect(folder.files.allSatisfy { !$0.hasSuffix(".writing") })
  }

  @Test func forksAndCancelledRequests() async throws {
    let ids = try await novel(5000)
    let (beginning, rest) = (Array(ids.prefix(4200)), Array(ids.dropFirst(4200)))
    let plain = try await load()
    let folder = TemporaryFolder()
    let tiered = try await load(tiers(Self.half, folder.path))
    var answers: [[[GeneratedToken]]] = []
    for model in [plain, tiered] {
      let first = try await model.makeSession(
        attention: SessionTests.focused, prefixes: .shared)
      var found = [try await answer(first, beginning).tokens]
      let second = try await first.fork()
      // One is cancelled within its first steps, the other goes on.
      let task = Task { [second] in try await answer(second, rest + ids) }
      try await Task.sleep(for: .milliseconds(200))
      task.cancel()
      _ = try? await task.value
      found.append(try await answer(first, rest).tokens)
      let third = try await first.fork()
      found.append(try await answer(third, Array(ids.prefix(300))).tokens)
      found.append(try await answer(first, Array(ids.prefix(200))).tokens)
      answers.append(found)
    }
    #expect(answers[0] == answers[1])
  }

  @Test(arguments: [AttentionChoice.named("infinitehip"), SessionTests.focused].compactMap { $0 })
  func savedContextsGoOnAsIfNothingHadHappened(_ choice: AttentionChoice) async throws {
    let ids = try await novel(5000)
    let (text, question) = (Array(ids.prefix(4321)), Array(ids.dropFirst(4321)))
    let folder = TemporaryFolder()
    let path = folder.path + "/book.hipkv"
    try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
    let plain = try await load()
    let session = try await plain.makeSession(attention: choice)
    _ = try await answer(session, text, count: 0)
    let expected = try await answer(session, question).tokens
    // It is stopped on the way, and goes on with what it has.
    let first = try await load(tiers(Self.half, nil))
    let stopped = try await first.makeSession(attention: choice, prefixes: .shared)
    try await stopped.save(to: path)
    let reading = Task { [stopped] in try await answer(stopped, text, count: 0) }
    while (try? FileManager.default.attributesOfItem(atPath: path + ".part")[.size] as? Int)
      .flatMap({ $0 }) ?? 0 < 10 << 20
    {
      try await Task.sleep(for: .milliseconds(20))
    }
    reading.cancel()
    _ = try? await reading.value
    await first.settleTiers()
    try await stopped.clear()
    let second = try await load(tiers(64 << 20, nil))
    let resumed = try await second.makeSession(attention: choice, prefixes: .shared)
    do {
      try await resumed.save(to: path)
      let end = try await answer(resumed, text, count: 0).end
      #expect(end.cachedTokens >= 1024)
      #expect(try await resumed.finishSaving().tokenCount == text.count)
      let fork = try await resumed.fork()
      #expect(try await answer(fork, question).tokens == expected, "going on")
      let fresh = try await second.makeSession(attention: choice)
      _ = try await answer(fresh, text, count: 0)
      #expect(try await answer(fresh, question).tokens == expected, "fresh")
    }
    #expect(folder.files == ["book.hipkv"])
    let third = try await load(tiers(Self.least, nil))
    let (opened, notices) = try await third.openContext(path, attention: choice)
    #expect(notices.isEmpty && opened.tokenCount == text.count)
    #expect(try await answer(opened, question).tokens == expected)
    // Another attention is told what the file is of.
    await #expect(throws: InfiniteHiPError.self) {
      _ = try await third.openContext(path, attention: try #require(.named("infinitehip-3k")))
    }
  }

  /// What is damaged is found, said and computed anew; the answer stays the same.
  @Test func damageIsMended() async throws {
    let ids = try await novel(5000)
    let folder = TemporaryFolder()
    let choice = SessionTests.focused
    func answered() async throws -> (tokens: [GeneratedToken], end: Completion) {
      let model = try await load(tiers(Self.half, folder.path))
      let session = try await model.makeSession(attention: choice, prefixes: .shared)
      defer { withExtendedLifetime(session) {} }
      let found = try await answer(session, ids)
      await model.settleTiers()
      return found
    }
    let expected = try await answered()
    #expect(folder.segments.count == 4)
    var numbers = SeededNumbers(5)
    for round in 0..<6 {
      let path = folder.segments[numbers.index(below: folder.segments.count)]
      var bytes = try Data(contentsOf: URL(filePath: path))
      switch round % 3 {
      case 0:
        // Any page may be one that nothing attends to: all of them are damaged.
        for place in stride(from: 400_000, to: bytes.count, by: 4096) { bytes[place] ^= 16 }
      case 1: bytes[64] ^= 1
      default: bytes.removeLast(5000)
      }
      try bytes.write(to: URL(filePath: path))
      let (tokens, end) = try await answered()
      #expect(tokens == expected.tokens, "round \(round)")
      #expect(!end.notices.isEmpty, "round \(round)")
      let again = try await answered()
      #expect(again.tokens == expected.tokens && again.end.notices.isEmpty)
      #expect(again.end.cachedTokens == 4096)
    }
  }

  @Test func whatCannotFitIsRefusedWithWhatWould() async throws {
    let ids = try await novel(5000)
    let model = try await load(tiers(16 << 20, nil))
    let session = try await model.makeSession()
    let error = await #expect(throws: InfiniteHiPError.self) {
      _ = try await answer(session, ids)
    }
    let message = try #require(error?.message)
    #expect(message.contains("would fit") && message.contains("--kv-disk"), "\(message)")
    let plan = try await model.plan(3_000_000)
    #expect(plan.problem != nil && plan.fileBytes == 0)
    let folder = TemporaryFolder()
    let large = try await load(
      KVTiers(memoryByteCount: 2 << 30, folder: folder.path, diskByteCount: 100 << 30))
    let fits = try await large.plan(3_000_000)
    #expect(fits.problem == nil)
    #expect(fits.pageBytes == 46_875 * 64 * 4096 && fits.sketchBytes == 46_875 * 64 * 264)
    #expect(fits.memoryPageBytes + fits.sketchBytes == 2 << 30)
  }

  @Test func aFullDiskStopsWritingOnly() async throws {
    let ids = try await novel(5000)
    let folder = TemporaryFolder()
    let choice = SessionTests.focused
    let expected = try await answer(load().makeSession(attention: choice), ids).tokens
    // One segment may be written; memory holds the rest.
    let model = try await load(
      KVTiers(memoryByteCount: 64 << 20, folder: folder.path, diskByteCount: 6 << 20))
    let session = try await model.makeSession(attention: choice, prefixes: .shared)
    let (tokens, end) = try await answer(session, ids)
    #expect(tokens == expected)
    #expect(!(end.notices + (await model.settleTiers())).isEmpty)
    #expect(folder.segments.count <= 1)
  }

  /// What is kept for later texts gives way where nothing may be written.
  @Test func whatIsKeptMakesRoomWithoutFiles() async throws {
    let novel = try await novel(9000)
    let model = try await load(tiers(24 << 20, nil))
    for start in stride(from: 0, to: 6000, by: 1200) {
      let session = try await model.makeSession(
        attention: SessionTests.focused, prefixes: .shared)
      let text = Array(novel[start..<start + 2600])
      #expect(try await answer(session, text).end.promptTokens == 2600)
    }
  }

  /// What another process removes is computed anew.
  @Test func segmentsThatOthersRemoveAreComputedAnew() async throws {
    let ids = try await novel(4600)
    let folder = TemporaryFolder()
    let choice = SessionTests.focused
    let model = try await load(tiers(Self.half, folder.path))
    let first = try await model.makeSession(attention: choice, prefixes: .shared)
    let expected = try await answer(first, ids).tokens
    await model.settleTiers()
    let again = try await load(tiers(Self.half, folder.path))
    let session = try await again.makeSession(attention: choice, prefixes: .shared)
    _ = try await answer(session, Array(ids.prefix(4200)), count: 0)
    for path in folder.segments { try FileManager.default.removeItem(atPath: path) }
    let third = try await again.makeSession(attention: choice, prefixes: .shared)
    #expect(try await answer(third, ids).tokens == expected)
  }

  /// Two damaged segments, one of which is read while the other is computed anew.
  @Test func severalDamagedSegmentsOfASavedContext() async throws {
    let ids = try await novel(4600)
    let (text, question) = (Array(ids.prefix(4200)), Array(ids.dropFirst(4200)))
    let folder = TemporaryFolder()
    try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
    let path = folder.path + "/book.hipkv"
    let choice = SessionTests.focused
    let model = try await load(tiers(Self.half, nil))
    let session = try await model.makeSession(attention: choice, prefixes: .shared)
    try await session.save(to: path)
    _ = try await answer(session, text, count: 0)
    _ = try await session.finishSaving()
    let expected = try await answer(session, question).tokens
    var bytes = try Data(contentsOf: URL(filePath: path))
    // The pages of the second segment, the header of the fourth.
    let size = bytes.count / 5
    for place in stride(from: size + 600_000, to: 2 * size - 100_000, by: 4096) {
      bytes[place] ^= 1
    }
    let fourth = 4096 + 3 * 4_472_832
    for place in fourth..<fourth + 256 { bytes[place] ^= 255 }
    try bytes.write(to: URL(filePath: path))
    let other = try await load(tiers(Self.half, nil))
    let (opened, notices) = try await other.openContext(path, attention: choice)
    let (tokens, end) = try await answer(opened, question)
    #expect(tokens == expected)
    #expect((notices + end.notices).count >= 2)
  }
}
