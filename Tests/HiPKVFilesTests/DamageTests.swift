// SPDX-License-Identifier: Apache-2.0

import HiPKVFiles
import TestSupport
import Testing

/// Files are changed in every way that comes to mind: what is read is what was written, or an error.
@Suite struct DamageTests {
  private let folder = TemporaryFolder()
  private let kind = SampleText.kind
  private let shape = SampleText.shape

  private func saved(_ text: SampleText) throws -> [UInt8] {
    let path = folder.path + "/saved.hipkv"
    let writer = try ContextFile.resume(path, kind: kind)
    for index in text.identities.indices { try writer.append(text.contents(index)) }
    _ = try writer.finish(tail: [5])
    return Bytes.read(path)
  }

  /// Changes bytes in one of many ways; nil where nothing changed.
  /// - Parameter start: where the segments begin.
  private func damage(
    _ bytes: [UInt8], _ old: [UInt8], start: Int, _ numbers: inout SeededNumbers
  ) -> [UInt8]? {
    var result = bytes
    let size = shape.byteCount
    let count = (bytes.count - start) / size
    func segment() -> Int { start + numbers.index(below: count) * size }
    func page() -> Int {
      segment()
        + shape.offset(
          page: numbers.index(below: shape.pagesPerBlock),
          block: numbers.index(below: shape.blocksPerSegment))
    }
    func move(_ from: [UInt8], _ source: Int, _ target: Int, _ count: Int) {
      from.withUnsafeBytes { from in
        result.withUnsafeMutableBytes { result in
          UnsafeMutableRawBufferPointer(rebasing: result[target..<target + count])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: from[source..<source + count]))
        }
      }
    }
    switch numbers.index(below: 9) {
    case 0: result[segment() + numbers.index(below: 300)] ^= 1 << UInt8(numbers.index(below: 8))
    case 1: result[numbers.index(below: result.count)] ^= 1 << UInt8(numbers.index(below: 8))
    case 2: result.removeLast(1 + numbers.index(below: result.count))
    case 3:
      let (one, other) = (page(), page())
      move(bytes, one, other, shape.pageByteCount)
      move(bytes, other, one, shape.pageByteCount)
    case 4:
      let (one, other) = (segment(), segment())
      move(bytes, one, other, size)
      move(bytes, other, one, size)
    case 5: move(bytes, page(), page(), shape.pageByteCount)
    case 6: move(bytes, segment(), segment(), size)
    case 7:
      // What the file held before.
      let place = segment()
      move(old, place, place, size)
    default:
      let place = page()
      move(old, place, place, shape.pageByteCount)
    }
    return Bytes.areEqual(result, bytes) ? nil : result
  }

  /// Whether a byte of a segment belongs to none of its parts.
  private func isBetween(_ place: Int?) -> Bool {
    guard let place, place >= 0 else { return false }
    let inside = place % shape.byteCount
    let sketchEnd = shape.sketchOffset + shape.blocksPerSegment * shape.sketchByteCount
    return inside >= sketchEnd && inside < shape.pageOffset
      || inside >= shape.offset(page: shape.pagesPerBlock - 1, block: 3) + shape.pageByteCount
  }

  @Test(arguments: 0..<4) func ofASavedContext(_ part: Int) throws {
    let text = SampleText(1, tokenCount: 48)
    let bytes = try saved(text)
    // The same tokens with other numbers, and another text.
    let older = [
      try saved(SampleText(1, tokenCount: 48, pages: 77)), try saved(SampleText(2, tokenCount: 48)),
    ]
    let path = folder.path + "/book.hipkv"
    let start = 4096
    var numbers = SeededNumbers(UInt64(100 + part))
    var found = 0
    for round in 0..<250 {
      guard let changed = damage(bytes, older[round % 2], start: start, &numbers) else { continue }
      Bytes.write(changed, path)
      do {
        let file = try ContextFile.open(path, kind: kind)
        #expect(try file.tokens() == text.tokens + [5])
        for index in 0..<file.segmentCount {
          if case .damaged(let error) = file.segment(index) { throw error }
          let isRight = try text.matches(#require(file.segment(index).segment), index)
          #expect(isRight, "round \(round)")
        }
        // All is as it was: a byte between the areas was changed.
        #expect(
          isBetween(Bytes.onlyDifference(bytes, changed).map { $0 - start }), "round \(round)")
      } catch is KVFileError {
        found += 1
      }
    }
    #expect(found > 150)
  }

  @Test(arguments: 0..<4) func ofACache(_ part: Int) throws {
    let text = SampleText(1, tokenCount: 48)
    let other = SampleText(1, tokenCount: 48, pages: 77)
    let cache = try makeCache(folder.path + "/cache", files: 2)
    let second = try makeCache(folder.path + "/second")
    var paths: [String] = []
    var bytes: [UInt8] = []
    var old: [UInt8] = []
    for index in 0..<3 {
      paths.append(try cache.write(text.contents(index), kind: kind).location)
      bytes += Bytes.read(paths[index])
      old += Bytes.read(try second.write(other.contents(index), kind: kind).location)
    }
    let size = shape.byteCount
    var numbers = SeededNumbers(UInt64(200 + part))
    var damaged = 0
    for round in 0..<250 {
      guard let changed = damage(bytes, old, start: 0, &numbers) else { continue }
      for index in 0..<3 {
        let original = Array(bytes[index * size..<(index + 1) * size])
        let slice = Array(
          changed[min(index * size, changed.count)..<min((index + 1) * size, changed.count)])
        let isSame = Bytes.areEqual(slice, original)
        if isSame && Bytes.areEqual(Bytes.read(paths[index]), original) { continue }
        Bytes.write(slice, paths[index])
        let isReplaced = Bytes.areEqual(slice, Array(old[index * size..<(index + 1) * size]))
        switch cache.find(kind, digest: text.identities[index].digest) {
        case .absent: Issue.record("round \(round): absent")
        case .damaged:
          damaged += 1
          #expect(Bytes.read(paths[index]).isEmpty, "round \(round): it is still there")
        case .found(let segment):
          // A whole segment of the same text is one that another process has written.
          let expected = isReplaced ? other : text
          do {
            #expect(try expected.matches(segment, index), "round \(round)")
            #expect(
              isReplaced || isSame || isBetween(Bytes.onlyDifference(original, slice)),
              "round \(round)")
          } catch is KVFileError {
            damaged += 1
            #expect(!cache.verify().isEmpty, "round \(round)")
          }
        }
      }
    }
    #expect(damaged > 150)
  }
}
