// SPDX-License-Identifier: Apache-2.0

import HiPKVStore
import TestSupport
import Testing

@Suite struct BlockTableTests {
  private func table(_ size: Int = 4) -> BlockTable {
    BlockTable(blockSize: size, blockByteCount: 100)
  }

  @Test func blocksAreTakenAsTokensCome() {
    var pool = BlockPool(capacity: 1000)
    var table = table()
    #expect(table.reserve(3, from: &pool) == [.added(place: 0, block: BlockID(index: 0))])
    table.advance(3)
    #expect(table.reserve(1, from: &pool) == [])
    table.advance(1)
    #expect(table.reserve(5, from: &pool)?.count == 2)
    #expect(pool.usedCount == 3 && pool.usedByteCount == 300)
  }

  @Test func aFullPoolRefusesAndChangesNothing() {
    var pool = BlockPool(capacity: 399)
    var first = table()
    #expect(first.reserve(8, from: &pool)?.count == 2)
    first.advance(6)
    var second = first.fork(in: &pool)
    // A copy and one block more: 200 bytes, of which 199 are left.
    #expect(second.byteCount(toReserve: 4, in: pool) == 200)
    #expect(second.reserve(4, from: &pool) == nil)
    #expect(second.blocks == first.blocks && pool.usedByteCount == 200)
    #expect(second.reserve(2, from: &pool)?.count == 1)
    #expect(pool.freeByteCount == 99)
  }

  @Test func poolsOfSeveralFormatsShareTheirBytes() {
    var pool = BlockPool(capacity: 1000)
    var small = table()
    var large = BlockTable(blockSize: 4, blockByteCount: 400)
    #expect(large.reserve(8, from: &pool) != nil)
    #expect(small.reserve(12, from: &pool) == nil)
    #expect(small.reserve(8, from: &pool) != nil)
    #expect(pool.freeByteCount == 0)
  }

  @Test func aForkCopiesOnlyTheBlockThatItWrites() {
    var pool = BlockPool(capacity: 1000)
    var first = table()
    _ = first.reserve(6, from: &pool)
    first.advance(6)
    var second = first.fork(in: &pool)
    let changes = second.reserve(1, from: &pool)
    #expect(changes == [.copied(place: 1, from: BlockID(index: 1), block: BlockID(index: 2))])
    #expect(first.blocks[0] == second.blocks[0])
    // The other one is the only owner of its last block now.
    #expect(first.reserve(1, from: &pool) == [])
  }

  @Test func aForkAtABlockEdgeCopiesNothing() {
    var pool = BlockPool(capacity: 1000)
    var first = table()
    _ = first.reserve(9, from: &pool)
    first.advance(4)
    // Room that holds no token is not shared.
    var second = first.fork(in: &pool)
    #expect(second.blocks.count == 1)
    #expect(second.reserve(1, from: &pool) == [.added(place: 1, block: BlockID(index: 3))])
    #expect(first.reserve(1, from: &pool) == [])
  }

  @Test func sharedBlocksOutliveOneOwner() {
    var pool = BlockPool(capacity: 1000)
    var first = table()
    _ = first.reserve(8, from: &pool)
    first.advance(8)
    var second = first.fork(in: &pool)
    #expect(first.truncate(to: 0, in: &pool).freed.isEmpty)
    #expect(second.truncate(to: 0, in: &pool).freed.count == 2)
    #expect(pool.usedCount == 0 && pool.usedByteCount == 0)
  }

  @Test func truncationGivesWholeBlocksBack() {
    var pool = BlockPool(capacity: 1000)
    var table = table()
    _ = table.reserve(12, from: &pool)
    table.advance(10)
    let (removed, freed) = table.truncate(to: 5, in: &pool)
    #expect(removed == 1)
    #expect(freed == [BlockID(index: 2)])
    #expect(table.length == 5)
  }

  @Test func whatCannotBeProvidedIsTakenBack() throws {
    var pool = BlockPool(capacity: 1000)
    var first = table()
    _ = first.reserve(6, from: &pool)
    first.advance(6)
    var second = first.fork(in: &pool)
    let changes = try #require(second.reserve(9, from: &pool))
    #expect(second.undo(changes, in: &pool).count == 3)
    #expect(second.blocks == first.blocks && pool.usedCount == 2)
    #expect(pool.isShared(first.blocks[1]))
  }

  @Test func randomForksAndReleasesLoseNoBlock() {
    var numbers = SeededNumbers(7)
    var pool = BlockPool(capacity: 1500)
    var tables = [table(8)]
    var refused = 0
    for _ in 0..<4000 {
      let index = numbers.index(below: tables.count)
      switch numbers.index(below: 4) {
      case 0 where tables.count < 12:
        tables.append(tables[index].fork(in: &pool))
      case 1 where tables.count > 1:
        _ = tables[index].truncate(to: 0, in: &pool)
        tables.remove(at: index)
      case 2:
        let keep = numbers.index(below: tables[index].length + 1)
        _ = tables[index].truncate(to: keep, in: &pool)
      default:
        let count = numbers.index(below: 20)
        let needed = tables[index].byteCount(toReserve: count, in: pool)
        let left = pool.freeByteCount
        guard tables[index].reserve(count, from: &pool) != nil else {
          #expect(needed > left)
          refused += 1
          continue
        }
        #expect(left - pool.freeByteCount == needed)
        let place = tables[index].length / 8
        tables[index].advance(count)
        // What was just written belongs to this table alone.
        for block in tables[index].blocks[place...] where count > 0 {
          #expect(!pool.isShared(block))
        }
      }
      let used = Set(tables.flatMap(\.blocks))
      #expect(used.count == pool.usedCount && pool.usedByteCount == 100 * used.count)
      #expect(pool.usedByteCount <= pool.capacity)
    }
    #expect(refused > 20)
  }
}
