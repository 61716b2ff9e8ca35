// SPDX-License-Identifier: Apache-2.0

import HiPKVStore
import TestSupport
import Testing

@Suite struct PageTableTests {
  @Test func pagesAreTakenAsTokensCome() {
    var pool = PagePool()
    var table = PageTable(pageSize: 4)
    #expect(table.reserve(3, from: &pool) == [.added(slot: 0, page: PageID(index: 0))])
    table.advance(3)
    #expect(table.reserve(1, from: &pool).isEmpty)
    table.advance(1)
    #expect(table.reserve(5, from: &pool).count == 2)
    #expect(pool.usedCount == 3)
  }

  @Test func aForkCopiesOnlyThePageThatItWrites() {
    var pool = PagePool()
    var first = PageTable(pageSize: 4)
    _ = first.reserve(6, from: &pool)
    first.advance(6)
    var second = first.fork(in: &pool)
    let changes = second.reserve(1, from: &pool)
    #expect(changes == [.copied(slot: 1, from: PageID(index: 1), page: PageID(index: 2))])
    #expect(first.pages[0] == second.pages[0])
    // The other one is the only owner of its last page now.
    #expect(first.reserve(1, from: &pool).isEmpty)
  }

  @Test func aForkAtAPageEdgeCopiesNothing() {
    var pool = PagePool()
    var first = PageTable(pageSize: 4)
    _ = first.reserve(4, from: &pool)
    first.advance(4)
    var second = first.fork(in: &pool)
    #expect(second.reserve(1, from: &pool) == [.added(slot: 1, page: PageID(index: 1))])
  }

  @Test func sharedPagesOutliveOneOwner() {
    var pool = PagePool()
    var first = PageTable(pageSize: 4)
    _ = first.reserve(8, from: &pool)
    first.advance(8)
    var second = first.fork(in: &pool)
    #expect(first.releaseAll(to: &pool).isEmpty)
    #expect(second.releaseAll(to: &pool).count == 2)
    #expect(pool.usedCount == 0)
  }

  @Test func truncationGivesWholePagesBack() {
    var pool = PagePool()
    var table = PageTable(pageSize: 4)
    _ = table.reserve(12, from: &pool)
    table.advance(12)
    let (removed, freed) = table.truncate(to: 5, in: &pool)
    #expect(removed == 1)
    #expect(freed == [PageID(index: 2)])
    #expect(table.length == 5)
  }

  @Test func randomForksAndReleasesLoseNoPage() {
    var numbers = SeededNumbers(7)
    var pool = PagePool()
    var tables = [PageTable(pageSize: 8)]
    for _ in 0..<2000 {
      let index = numbers.index(below: tables.count)
      switch numbers.index(below: 4) {
      case 0 where tables.count < 12:
        tables.append(tables[index].fork(in: &pool))
      case 1 where tables.count > 1:
        _ = tables[index].releaseAll(to: &pool)
        tables.remove(at: index)
      case 2:
        let keep = numbers.index(below: tables[index].length + 1)
        _ = tables[index].truncate(to: keep, in: &pool)
      default:
        let count = numbers.index(below: 20)
        _ = tables[index].reserve(count, from: &pool)
        tables[index].advance(count)
        // What was just written belongs to this table alone.
        if let last = tables[index].pages.last, count > 0 { #expect(!pool.isShared(last)) }
      }
      #expect(Set(tables.flatMap(\.pages)).count == pool.usedCount)
    }
  }
}
