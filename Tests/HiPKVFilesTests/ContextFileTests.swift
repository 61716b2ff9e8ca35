// SPDX-License-Identifier: Apache-2.0

import HiPKVFiles
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite struct ContextFileTests {
  private let folder = TemporaryFolder()
  private let kind = SampleText.kind
  private var path: String { folder.path + "/book.hipkv" }

  private func write(_ text: SampleText, tail: [Int32] = []) throws -> ContextFile {
    let writer = try ContextFile.resume(path, kind: text.kind)
    for index in text.identities.indices { try writer.append(text.contents(index)) }
    return try writer.finish(tail: tail)
  }

  @Test func whatIsSavedIsOpenedAgain() throws {
    let text = SampleText(1, tokenCount: 37, absent: [2, 5])
    _ = try write(text, tail: [7, -8])
    #expect(TemporaryFolder.names(folder.path) == ["book.hipkv"])
    let file = try ContextFile.open(path, kind: kind)
    #expect(file.kind == kind && file.kind.description == kind.description)
    #expect(file.tokenCount == 39 && file.tailCount == 2 && file.segmentCount == 3)
    #expect(try file.tokens() == text.tokens + [7, -8])
    for index in 0..<3 {
      #expect(try text.matches(#require(file.segment(index).segment), index))
    }
    #expect(file.verify().isEmpty)
  }

  @Test func aTextMayHaveNoSegment() throws {
    let file = try ContextFile.resume(path, kind: kind).finish(tail: [1, 2])
    #expect(try file.tokens() == [1, 2] && file.segmentCount == 0)
  }

  @Test func whatIsWrongIsSaid() throws {
    let text = SampleText(1, tokenCount: 16)
    #expect(code { _ = try ContextFile.open(path) } == .missing)
    let writer = try ContextFile.resume(path, kind: kind)
    #expect(code { _ = try ContextFile.resume(path, kind: kind) } == .busy)
    do {
      _ = try ContextFile.open(path)
      Issue.record("opened")
    } catch {
      #expect(error.message.contains("not finished"))
    }
    try writer.append(text.contents(0))
    _ = try writer.finish()
    let other = ContextKind(shape: SampleText.shape, description: "model: other\nversion: 1")
    do {
      _ = try ContextFile.open(path, kind: other)
      Issue.record("opened")
    } catch {
      #expect(error.code == .otherKind)
      #expect(error.message.contains("model: sample") && error.message.contains("model: other"))
      #expect(!error.message.contains("version: 1"))
    }
    var bytes = Bytes.read(path)
    bytes[8] = 9
    Bytes.write(bytes, path)
    #expect(code { _ = try ContextFile.open(path) } == .otherVersion)
    Bytes.write(Array("something else".utf8), path)
    #expect(code { _ = try ContextFile.open(path) } == .notAContextFile)
    Bytes.write(Array("something else".utf8), path + ".part")
    #expect(code { _ = try ContextFile.resume(path, kind: kind) } == .notAContextFile)
    #expect(Bytes.read(path + ".part") == Array("something else".utf8))
  }

  @Test func whatWasCutOffIsResumed() throws {
    let text = SampleText(3, tokenCount: 60)
    let size = SampleText.shape.byteCount
    var whole: [UInt8] = []
    do {
      let writer = try ContextFile.resume(path, kind: kind)
      for index in 0..<4 { try writer.append(text.contents(index)) }
      whole = Bytes.read(path + ".part")
    }
    let headerSize = whole.count - 4 * size
    var numbers = SeededNumbers(5)
    for round in 0..<60 {
      let cut = round == 0 ? 0 : numbers.index(below: whole.count + 1)
      var bytes = Array(whole[..<cut])
      // What a machine that loses power leaves: the length, and zeros where nothing reached the disk.
      let isPadded = round % 3 == 2 && cut > headerSize
      if isPadded { bytes += [UInt8](repeating: 0, count: whole.count - cut) }
      Bytes.write(bytes, path + ".part")
      let writer = try ContextFile.resume(path, kind: kind)
      let complete = max(0, (cut - headerSize) / size)
      // Of a partial last segment the end may be empty anyway.
      if isPadded {
        #expect(writer.segmentCount >= complete)
      } else {
        #expect(writer.segmentCount == complete)
      }
      for index in 0..<writer.segmentCount {
        #expect(try text.matches(#require(writer.segment(index).segment), index))
      }
      if round % 10 == 0 {
        for index in writer.segmentCount..<4 { try writer.append(text.contents(index)) }
        #expect(try writer.finish().verify().isEmpty)
      }
    }
  }

  @Test func anotherTextIsGoneOnWith() throws {
    let text = SampleText(3, tokenCount: 48)
    let writer = try ContextFile.resume(path, kind: kind)
    for index in 0..<3 { try writer.append(text.contents(index)) }
    try writer.keepFirst(1)
    #expect(writer.segmentCount == 1 && writer.tokenCount == 16)
    try writer.append(text.contents(1))
    let file = try writer.finish()
    #expect(try file.segmentCount == 2 && file.tokens() == Array(text.tokens[..<32]))
  }

  @Test func aFileInUseOutlivesItsReplacement() throws {
    let text = SampleText(1, tokenCount: 16)
    let file = try write(text)
    _ = try write(SampleText(2, tokenCount: 16))
    #expect(try text.matches(#require(file.segment(0).segment), 0))
  }
}
