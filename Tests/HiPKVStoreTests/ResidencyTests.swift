// SPDX-License-Identifier: Apache-2.0

import HiPKVStore
import TestSupport
import Testing

/// A tier against a model of it that is obviously right: random traces of all that can happen.
@Suite struct ResidencyTests {
  /// What the tests know of a page.
  private struct Page {
    var isBelow = false
    var pins = 0
    var transfer: Residency.Transfer?
  }

  @Test(arguments: 0..<16) func randomTraces(_ seed: UInt64) {
    var numbers = SeededNumbers(seed)
    var limit = 4 + numbers.index(below: 40)
    var tier = Residency(limit: limit)
    var pages: [Int: Page] = [:]
    var next = 0
    var held: [[Int]] = []
    for _ in 0..<1500 {
      switch numbers.index(below: 9) {
      case 0:
        // A new page: it has a slot, or there is none that could be had.
        let isPossible = tier.availableCount > 0
        let slot = tier.add(next)
        #expect((slot != nil) == isPossible)
        if slot != nil { pages[next] = Page() }
        next += 1
      case 1:
        if let page = pages.keys.sorted().first(where: { pages[$0]?.isBelow == false }) {
          tier.markStored(page)
          pages[page]?.isBelow = true
        }
      case 2, 3, 4:
        let known = pages.keys.sorted()
        guard !known.isEmpty else { continue }
        let wanted = Set(
          (0..<1 + numbers.index(below: 6)).map { _ in
            known[numbers.index(below: known.count)]
          }
        ).sorted()
        let before = wanted.filter { tier.pinnedSlot(of: $0) != nil }
        guard let plan = tier.prepare(wanted) else {
          // All or nothing: whatever is new or pinned is still there.
          #expect(tier.availableCount < wanted.count)
          for page in before where pages[page]?.pins ?? 0 > 0 || pages[page]?.isBelow == false {
            #expect(tier.pinnedSlot(of: page) != nil)
          }
          continue
        }
        for transfer in plan.transfers {
          // Only what lies below has to be brought, and nobody else is bringing it.
          #expect(pages[transfer.page]?.isBelow == true)
          #expect(pages[transfer.page]?.transfer == nil)
          pages[transfer.page]?.transfer = transfer
        }
        for page in plan.awaited { #expect(pages[page]?.transfer != nil) }
        for page in wanted { pages[page]?.pins += 1 }
        held.append(wanted)
      case 5:
        if let page = pages.keys.sorted().first(where: { pages[$0]?.transfer != nil }),
          let transfer = pages[page]?.transfer
        {
          tier.complete(transfer)
          pages[page]?.transfer = nil
        }
      case 6:
        guard
          let index = held.indices.first(where: { index in
            held[index].allSatisfy { pages[$0]?.transfer == nil }
          })
        else { continue }
        tier.release(held[index])
        for page in held[index] { pages[page]?.pins -= 1 }
        held.remove(at: index)
      case 7:
        // Nobody reads a page any more.
        if let page = pages.keys.sorted().first(where: {
          pages[$0]?.pins == 0 && pages[$0]?.transfer == nil
        }), numbers.index(below: 4) == 0 {
          tier.discard(page)
          pages[page] = nil
        }
      default:
        if numbers.index(below: 20) == 0 {
          limit = 4 + numbers.index(below: 40)
          let freed = tier.resize(to: limit)
          #expect(Set(freed).count == freed.count)
        }
      }
      check(tier, pages, limit)
    }
  }

  /// No page is lost, no slot has two owners, no more slots than allowed are newly taken, nothing pinned goes.
  private func check(_ tier: Residency, _ pages: [Int: Page], _ limit: Int) {
    var owners: Set<Int> = []
    var (fixed, here) = (0, 0)
    for (number, page) in pages {
      let slot = tier.pinnedSlot(of: number)
      if let slot {
        #expect(owners.insert(slot).inserted)
        here += 1
      }
      if !page.isBelow || page.pins > 0 {
        #expect(slot != nil)
        fixed += 1
      }
      if page.transfer == nil, page.pins > 0 { #expect(tier.slot(of: number) == slot) }
      if page.transfer != nil { #expect(tier.slot(of: number) == nil) }
    }
    #expect(tier.usedCount == here)
    // What may not go exceeds a limit that has just become smaller; nothing else does.
    #expect(tier.usedCount <= max(limit, fixed) || tier.touchedCount > limit)
    #expect(tier.touchedCount <= max(limit, 43))
  }

  /// Texts one after the other take the memory of one, neighbours side by side; beside a long text short ones come and go
  /// in memory of their own.
  @Test func laterTextsTakeTheMemoryOfEarlierOnes() throws {
    var tier = Residency(limit: 1000)
    for text in 0..<5 {
      for page in 0..<100 { #expect(tier.add(text * 100 + page) == page) }
      #expect(tier.touchedCount == 100 && tier.usedCount == 100)
      for page in (0..<100).map({ $0 * 37 % 100 }) { tier.discard(text * 100 + page) }
      #expect(tier.usedCount == 0)
    }
    for page in 1000..<1100 { _ = tier.add(page) }
    for page in 1000..<1020 { tier.discard(page) }
    #expect(tier.add(2000) == 100)
    for page in 1020..<1040 { tier.discard(page) }
    for page in 1040..<1060 { tier.discard(page) }
    #expect(tier.add(2001) == 0)
  }

  @Test func whatWasReadLeastRecentlyGoes() throws {
    var tier = Residency(limit: 3)
    for page in 0..<3 {
      #expect(tier.add(page) != nil)
      tier.markStored(page)
    }
    _ = tier.prepare([0])
    tier.release([0])
    #expect(tier.add(3) != nil)
    #expect(tier.slot(of: 1) == nil && tier.slot(of: 0) != nil && tier.slot(of: 2) != nil)
    // Pinned: the next one to go is another.
    _ = tier.prepare([2])
    #expect(tier.add(4) != nil)
    #expect(tier.slot(of: 0) == nil && tier.slot(of: 2) != nil)
    // New pages and pinned ones fill it.
    #expect(tier.add(5) == nil)
  }

  @Test func aFailedTransferLeavesNothing() throws {
    var tier = Residency(limit: 2)
    _ = tier.add(0)
    tier.markStored(0)
    _ = tier.add(1)
    tier.markStored(1)
    _ = tier.add(2)
    let prepared = tier.prepare([0])
    let plan = try #require(prepared)
    let transfer = try #require(plan.transfers.first)
    tier.cancel(transfer)
    #expect(tier.pinnedSlot(of: 0) == nil)
    let again = tier.prepare([0])
    #expect(again?.transfers.count == 1)
  }
}
