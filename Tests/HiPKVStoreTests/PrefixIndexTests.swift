// SPDX-License-Identifier: Apache-2.0

import HiPKVStore
import TestSupport
import Testing

@Suite struct PrefixIndexTests {
  private func blocks(_ indices: Int...) -> [BlockID] { indices.map { BlockID(index: $0) } }

  @Test func theLongestKnownBeginningIsFound() {
    var index = PrefixIndex(blockSize: 4)
    let text: [Int32] = Array(1...11)
    #expect(index.insert(text, blocks: blocks(5, 6, 7)) == blocks(5, 6))
    #expect(index.match(text) == blocks(5, 6))
    #expect(index.match(text.prefix(7)) == blocks(5))
    #expect(index.match(text.prefix(3)) == [])
    // Another token in the second block.
    #expect(index.match([1, 2, 3, 4, 5, 6, 0, 8]) == blocks(5))
    // The same second block behind another first one.
    #expect(index.match([0, 2, 3, 4, 5, 6, 7, 8]) == [])
  }

  @Test func whatIsKnownStays() {
    var index = PrefixIndex(blockSize: 2)
    #expect(index.insert([1, 2, 3, 4], blocks: blocks(0, 1)) == blocks(0, 1))
    #expect(index.insert([1, 2, 5, 6], blocks: blocks(2, 3)) == blocks(3))
    #expect(index.match([1, 2, 5, 6]) == blocks(0, 3))
    #expect(index.count == 3)
  }

  @Test func aBlockTakesThoseBehindItAlong() {
    var index = PrefixIndex(blockSize: 1)
    _ = index.insert([1, 2, 3], blocks: blocks(0, 1, 2))
    _ = index.insert([1, 4], blocks: blocks(9, 3))
    #expect(Set(index.remove(BlockID(index: 0))) == Set(blocks(0, 1, 2, 3)))
    #expect(index.match([1, 2, 3]) == [] && index.count == 0)
    #expect(index.remove(BlockID(index: 0)) == [])
  }

  @Test func seedsKeepFormatsApart() {
    var first = PrefixIndex(blockSize: 1, seed: 1)
    _ = first.insert([7], blocks: blocks(0))
    #expect(first.match([7]) == blocks(0))
    #expect(PrefixIndex(blockSize: 1, seed: 2).match([7]) == [])
  }

  @Test func theFirstDifferenceIsTold() {
    var index = PrefixIndex(blockSize: 4)
    _ = index.insert(Array(1...12), blocks: blocks(0, 1, 2))
    _ = index.insert([1, 2, 9, 9], blocks: blocks(3))
    #expect(index.commonLength(with: [1, 2, 3, 4, 5, 6, 0, 0]) == 6)
    #expect(index.commonLength(with: [1, 2, 9, 0]) == 3)
    #expect(index.commonLength(with: Array(1...20)) == 12)
    #expect(index.commonLength(with: [7]) == 0)
  }

  /// In the order of their last use nothing is left behind what has gone.
  @Test func theLeastRecentComesOutFirst() {
    var index = PrefixIndex(blockSize: 1)
    _ = index.insert([1, 2, 3], blocks: blocks(0, 1, 2))
    _ = index.insert([4, 5], blocks: blocks(3, 4))
    index.touch([1, 2])
    #expect(index.leastRecent() == blocks(2, 4, 3, 1, 0))
    for block in index.leastRecent() { #expect(index.remove(block) == [block]) }
    #expect(index.count == 0)
  }

  /// Against a model that compares whole beginnings.
  @Test func randomTextsMatchWhatComparingWouldFind() {
    var numbers = SeededNumbers(3)
    var index = PrefixIndex(blockSize: 3)
    var known: [[Int32]: BlockID] = [:]
    for round in 0..<300 {
      let text = (0..<numbers.index(below: 14)).map { _ in Int32(numbers.index(below: 2)) }
      var expected: [BlockID] = []
      for end in stride(from: 3, through: text.count, by: 3) {
        guard let block = known[Array(text[..<end])] else { break }
        expected.append(block)
      }
      #expect(index.match(text) == expected)
      let own = (0..<text.count / 3).map { BlockID(index: round * 10 + $0) }
      _ = index.insert(text, blocks: own)
      for (number, end) in stride(from: 3, through: text.count, by: 3).enumerated() {
        let start = Array(text[..<end])
        if known[start] == nil { known[start] = own[number] }
      }
    }
    #expect(index.count == known.count)
  }
}
