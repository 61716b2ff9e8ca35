// SPDX-License-Identifier: Apache-2.0

import HiPKVFiles
import TestSupport
import Testing

@Suite struct ScratchFileTests {
  private let folder = TemporaryFolder()
  private let shape = SampleText.shape

  @Test func placesAreUsedAgain() throws {
    let scratch = try ScratchFile(
      folder: folder.path, shape: shape, byteLimit: 3 * shape.byteCount)
    let text = SampleText(1, tokenCount: 62, absent: [3])
    var segments = try (0..<3).map { try scratch.write(text.contents($0)) }
    #expect(code { _ = try scratch.write(text.contents(3)) } == .full)
    for index in 0..<3 { #expect(try text.matches(segments[index], index)) }
    segments.remove(at: 1)
    let last = try scratch.write(text.contents(3))
    #expect(try text.matches(last, 3) && text.matches(segments[1], 2))
    #expect(scratch.segmentCount == 3 && scratch.byteCount == 3 * shape.byteCount)
    // Nothing shows in the folder.
    #expect(TemporaryFolder.names(folder.path) == [])
  }

  @Test func whatWasGivenUpIsNotRead() throws {
    let scratch = try ScratchFile(
      folder: folder.path, shape: shape, byteLimit: 3 * shape.byteCount)
    let text = SampleText(1, tokenCount: 32)
    let segment = try scratch.write(text.contents(0))
    scratch.free(segment)
    scratch.free(segment)
    #expect(scratch.segmentCount == 0 && scratch.byteCount == 0)
    let next = try scratch.write(text.contents(1))
    #expect(code { _ = try text.matches(segment, 0) } == .missing)
    #expect(try text.matches(next, 1))
  }
}
