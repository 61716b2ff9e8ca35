// SPDX-License-Identifier: Apache-2.0

import HiPKVFiles
import Synchronization
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite struct CacheFolderTests {
  private let folder = TemporaryFolder()
  private let kind = SampleText.kind
  /// What a whole segment of the sample takes of a disk.
  private let size = SampleText.shape.byteCount

  @Test func whatIsWrittenIsFoundAgain() throws {
    // The last segment has 5 of 16 tokens: a block and a part.
    let text = SampleText(1, tokenCount: 37, absent: [2, 5])
    let cache = try makeCache(folder.path + "/a/b")
    for index in text.identities.indices { _ = try cache.write(text.contents(index), kind: kind) }
    let other = try makeCache(folder.path + "/a/b")
    for (index, identity) in text.identities.enumerated() {
      let segment = try #require(other.find(kind, digest: identity.digest).segment)
      #expect(segment.parent == identity.parent && segment.digest == identity.digest)
      #expect(try text.matches(segment, index))
    }
    let last = try #require(other.find(kind, digest: text.identities[2].digest).segment)
    #expect(last.tokenCount == 5 && last.blockCount == 2)
    #expect(last.hasPage(0, block: 1) && !last.hasPage(0, block: 2) && !last.hasPage(1, block: 1))
    var bytes = [UInt8](repeating: 0, count: 256)
    let problem = bytes.withUnsafeMutableBytes { buffer in
      code { try last.readPage(1, block: 1, into: try #require(buffer.baseAddress)) }
    }
    #expect(problem == .absentPage)
    if case .absent = other.find(kind, digest: kind.digest) {} else { Issue.record("found") }
    #expect(cache.traffic.bytesWritten > 0 && other.traffic.bytesRead > 0)
  }

  @Test func theLimitIsKeptAndTheLeastUsedGoFirst() throws {
    let now = Shared(Atomic(1_000_000))
    let cache = try makeCache(
      folder.path, limit: 4 * size, clock: { now.value.load(ordering: .relaxed) })
    let old = SampleText(1, tokenCount: 48)
    for index in 0..<3 { _ = try cache.write(old.contents(index), kind: kind) }
    #expect(cache.byteCount == 3 * size)
    now.value.add(100, ordering: .relaxed)
    let new = SampleText(2, tokenCount: 48)
    for index in 0..<2 {
      _ = try cache.write(new.contents(index), kind: kind)
      #expect(cache.byteCount <= 4 * size)
    }
    // Of equally old ones the deepest went.
    #expect(isThere(cache, old) == [true, true, false])
    #expect(isThere(cache, new) == [true, true, false])
  }

  private func isThere(_ cache: CacheFolder, _ text: SampleText) -> [Bool] {
    text.identities.map { cache.find(text.kind, digest: $0.digest).segment != nil }
  }

  @Test func usingSegmentsKeepsThem() throws {
    let now = Shared(Atomic(1_000_000))
    let cache = try makeCache(
      folder.path, limit: 2 * size, clock: { now.value.load(ordering: .relaxed) })
    let first = SampleText(1, tokenCount: 16)
    let second = SampleText(2, tokenCount: 16)
    _ = try cache.write(first.contents(0), kind: kind)
    _ = try cache.write(second.contents(0), kind: kind)
    now.value.add(100, ordering: .relaxed)
    cache.touch([try #require(cache.find(kind, digest: first.identities[0].digest).segment)])
    _ = try cache.write(SampleText(3, tokenCount: 16).contents(0), kind: kind)
    #expect(isThere(cache, first) == [true] && isThere(cache, second) == [false])
  }

  @Test func whatIsOpenStays() throws {
    let cache = try makeCache(folder.path, limit: 2 * size, files: 1)
    let text = SampleText(1, tokenCount: 48)
    var open = try (0..<2).map { try cache.write(text.contents($0), kind: kind) }
    #expect(code { _ = try cache.write(text.contents(2), kind: kind) } == .full)
    for index in 0..<2 { #expect(try text.matches(open[index], index)) }
    open.removeLast()
    _ = try cache.write(text.contents(2), kind: kind)
    #expect(isThere(cache, text) == [true, false, true])
  }

  @Test func anEvictedSegmentIsReadOn() throws {
    let reader = try makeCache(folder.path, limit: 1 << 30)
    let text = SampleText(1, tokenCount: 16)
    let segment = try reader.write(text.contents(0), kind: kind)
    let other = try makeCache(folder.path, limit: size)
    let next = SampleText(2, tokenCount: 16)
    _ = try other.write(next.contents(0), kind: kind)
    #expect(isThere(other, text) == [false])
    #expect(try text.matches(segment, 0))
  }

  @Test func aSegmentThatWasClosedIsOpenedAgain() throws {
    let cache = try makeCache(folder.path, files: 1)
    let text = SampleText(1, tokenCount: 48)
    let segments = try (0..<3).map { try cache.write(text.contents($0), kind: kind) }
    for _ in 0..<3 {
      for index in 0..<3 { #expect(try text.matches(segments[index], index)) }
    }
    // Its file is closed and gone: that is said, and nothing else happens.
    try cache.remove(.all)
    #expect(code { _ = try text.matches(segments[0], 0) } == .missing)
    // The same text with other numbers in its place is not taken for it.
    let again = SampleText(1, tokenCount: 48, pages: 99)
    _ = try cache.write(again.contents(0), kind: kind)
    #expect(code { _ = try text.matches(segments[0], 0) } == .missing)
  }

  @Test func manyReadersShareFewFiles() async throws {
    let cache = try makeCache(folder.path, files: 1)
    let text = SampleText(1, tokenCount: 64)
    let segments = try (0..<4).map { try cache.write(text.contents($0), kind: kind) }
    let isRight = await withTaskGroup(of: Bool.self) { group in
      for reader in 0..<4 {
        group.addTask {
          let text = SampleText(1, tokenCount: 64)
          return (0..<12).allSatisfy { round in
            let index = (reader + round) % 4
            return (try? text.matches(segments[index], index)) ?? false
          }
        }
      }
      return await group.reduce(true) { $0 && $1 }
    }
    #expect(isRight)
  }

  @Test func manyWritersShareAFolder() async throws {
    let limit = 6 * size
    let path = folder.path
    let failures = await withTaskGroup(of: String?.self) { group in
      for writer in 0..<4 {
        group.addTask {
          do {
            return try Self.write(UInt64(writer % 2), path, limit)
          } catch {
            return "\(error)"
          }
        }
      }
      return await group.reduce(into: [String]()) { failures, failure in
        if let failure { failures.append(failure) }
      }
    }
    #expect(failures == [])
    #expect(!TemporaryFolder.files(path).contains { $0.hasSuffix(".writing") })
  }

  /// Writes texts, which another one writes at the same time, and reads what was written; says what is wrong.
  private static func write(_ seed: UInt64, _ path: String, _ limit: Int) throws -> String? {
    let cache = try makeCache(path, limit: limit)
    var kept: [(SampleText, StoredSegment)] = []
    for round in 0..<12 {
      let text = SampleText(UInt64(round) * 2 + seed, tokenCount: 16)
      kept.append((text, try cache.write(text.contents(0), kind: text.kind)))
      if kept.count > 1 { kept.removeFirst() }
      if cache.byteCount > limit { return "\(cache.byteCount) bytes" }
      for (text, segment) in kept where try !text.matches(segment, 0) {
        return "\(segment.location) is another segment"
      }
    }
    return nil
  }

  @Test func theDayHasItsLimit() throws {
    let now = Shared(Atomic(1_000_000))
    let cache = try makeCache(
      folder.path, writes: 2 * size, clock: { now.value.load(ordering: .relaxed) })
    let text = SampleText(1, tokenCount: 48)
    for index in 0..<2 { _ = try cache.write(text.contents(index), kind: kind) }
    #expect(code { _ = try cache.write(text.contents(2), kind: kind) } == .writeLimit)
    // What is there needs no writing.
    _ = try cache.write(text.contents(0), kind: kind)
    now.value.add(86_400, ordering: .relaxed)
    _ = try cache.write(text.contents(2), kind: kind)
    let none = try makeCache(folder.path, writes: 0)
    let other = SampleText(2, tokenCount: 16)
    #expect(code { _ = try none.write(other.contents(0), kind: kind) } == .writeLimit)
    #expect(isThere(none, text) == [true, true, true])
  }

  @Test func aFullDiskLeavesNothingBehind() throws {
    for space in [1, 1000, 2300] {
      let cache = try makeCache(folder.path, space: space)
      let text = SampleText(7, tokenCount: 16, absent: [1, 5, 9])
      #expect(code { _ = try cache.write(text.contents(0), kind: kind) } == .noSpace)
      #expect(
        !TemporaryFolder.files(folder.path).contains { $0.hasSuffix("ing") || $0.hasSuffix("ent") })
    }
    #expect(String(decoding: Bytes.read(folder.path + "/writes"), as: UTF8.self) == "11 0\n")
  }

  @Test func whatADeadWriterLeftIsRemoved() throws {
    let cache = try makeCache(folder.path)
    let text = SampleText(1, tokenCount: 16)
    _ = try cache.write(text.contents(0), kind: kind)
    let inner = "\(folder.path)/\(kind.digest.hex.prefix(16))/"
    let dead = inner + "00000000000000000000000000000000.4096.1.1.writing"
    let alive = inner + "00000000000000000000000000000000.4096.1.2.writing"
    for path in [dead, alive] { Bytes.write([1, 2, 3], path) }
    let descriptor = open(alive, O_RDONLY)
    defer { close(descriptor) }
    #expect(flock(descriptor, LOCK_EX) == 0)
    _ = try makeCache(folder.path)
    #expect(access(dead, F_OK) != 0 && access(alive, F_OK) == 0)
  }

  @Test func whatIsNotOfTheCacheStays() throws {
    let strangers = ["/notes/draft.writing", "/notes/00000000000000000000000000000000.segment"]
    mkdir(folder.path + "/notes", 0o700)
    for name in strangers { Bytes.write([1], folder.path + name) }
    let cache = try makeCache(folder.path, limit: size)
    for seed: UInt64 in 1...2 {
      _ = try cache.write(SampleText(seed, tokenCount: 16).contents(0), kind: kind)
    }
    try cache.remove(.all)
    #expect(TemporaryFolder.files(folder.path) == strangers.sorted() + ["/writes"])
  }

  @Test(.enabled(if: geteuid() != 0)) func aFolderThatMayOnlyBeReadIsRead() throws {
    let text = SampleText(1, tokenCount: 16)
    _ = try makeCache(folder.path).write(text.contents(0), kind: kind)
    chmod(folder.path + "/writes", 0o400)
    chmod(folder.path, 0o500)
    defer { chmod(folder.path, 0o700) }
    let cache = try makeCache(folder.path)
    #expect(isThere(cache, text) == [true])
    let other = SampleText(2, tokenCount: 16)
    #expect(code { _ = try cache.write(other.contents(0), kind: kind) } == .notPermitted)
  }

  @Test func theListSaysWhatIsThere() throws {
    let cache = try makeCache(folder.path)
    let text = SampleText(1, tokenCount: 37)
    for index in 0..<3 { _ = try cache.write(text.contents(index), kind: kind) }
    let otherKind = ContextKind(shape: SampleText.shape, description: "model: other\nversion: 1")
    let other = SampleText(1, tokenCount: 16, kind: otherKind)
    let segment = try cache.write(other.contents(0), kind: otherKind)
    let entries = cache.list()
    #expect(Set(entries.map(\.description)) == [kind.description, otherKind.description])
    let entry = try #require(entries.first { $0.description == kind.description })
    #expect(entry.segmentCount == 3 && entry.tokenCount == 37 && entry.lastUse == 1_000_000)
    #expect(entries.reduce(0) { $0 + $1.byteCount } == cache.byteCount)
    #expect(cache.verify().isEmpty)
    #expect(try cache.remove(.kind(entry.name)) == entry.byteCount)
    #expect(cache.list().map(\.description) == [otherKind.description])
    #expect(try cache.remove(.unused(since: 1_000_000)) == 0)
    cache.remove(segment)
    #expect(cache.byteCount == 0)
  }
}

/// A reference to a value that cannot be copied.
final class Shared<Value: ~Copyable & Sendable>: Sendable {
  let value: Value
  init(_ value: consuming Value) { self.value = value }
}
