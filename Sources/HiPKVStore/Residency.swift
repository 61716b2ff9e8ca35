// SPDX-License-Identifier: Apache-2.0

/// Which pages lie in the slots of a fast tier, above a slower one that holds all that were stored: integers only.
///
/// A page is what moves between tiers as one: the keys or the values of a KV head in one block. New pages
/// begin in the fast tier and stay until they are stored below; from then on those that were read least recently
/// make room for others. What is pinned stays.
public struct Residency: Sendable {
  /// The most slots that hold a page at a time.
  public private(set) var limit: Int
  /// Slots that hold a page.
  public var usedCount: Int { touchedCount - warm.count }
  /// Slots of which the device keeps memory.
  public private(set) var touchedCount = 0
  /// Pages that could make room now.
  public private(set) var evictableCount = 0

  /// Slot of each page; -1: it lies below, or nowhere.
  private var slots: [Int32] = []
  private var entries: [Entry] = []
  /// Slots without a page: with memory, and without.
  private var warm: [Int32] = []
  private var cold: [Int32] = []
  /// Whether slots with memory are taken before those without, until none is left.
  private var reusesWarm = false
  /// Ends of the list of pages that may go, the most recent one first; -1: none.
  private var first: Int32 = -1
  private var last: Int32 = -1

  private struct Entry {
    var page: Int32
    var pins: Int32 = 0
    var state: State
    var before: Int32 = -1
    var after: Int32 = -1
  }

  private enum State: UInt8 {
    /// The slot has no page.
    case free
    /// Someone is bringing the page.
    case loading
    /// The page lies here only.
    case new
    /// The page lies below too.
    case stored
  }

  /// An empty tier.
  public init(limit: Int) { self.limit = max(0, limit) }

  /// Pages that can come without another being stored first.
  public var availableCount: Int { max(0, limit - usedCount) + evictableCount }

  /// Slots whose memory may go back to the system, as `resize` found.
  public typealias FreedSlots = [Int]

  // MARK: Pages

  /// The slot of a page; nil where it is not in the tier, or on its way.
  public func slot(of page: Int) -> Int? {
    guard page < slots.count, slots[page] >= 0, entries[Int(slots[page])].state != .loading else {
      return nil
    }
    return Int(slots[page])
  }

  /// The slot of a page that is here or on its way; nil where it is neither.
  public func pinnedSlot(of page: Int) -> Int? { rawSlot(of: page).map(Int.init) }

  /// Puts a page that is about to be written in a slot, where it stays until it is stored; nil when none is left.
  public mutating func add(_ page: Int) -> Int? {
    precondition(slot(of: page) == nil, "page \(page) is there already")
    return take(page, .new)
  }

  /// A page is stored below now, and may make room for others.
  public mutating func markStored(_ page: Int) {
    guard let slot = slot(of: page), entries[slot].state == .new else { return }
    entries[slot].state = .stored
    if entries[slot].pins == 0 { link(Int32(slot)) }
  }

  /// A page is about to be written: what lies below is no longer the same.
  public mutating func markNew(_ page: Int) {
    guard let slot = slot(of: page), entries[slot].state == .stored else { return }
    if entries[slot].pins == 0 { unlink(Int32(slot)) }
    entries[slot].state = .new
  }

  /// A page that nobody will read again gives its slot back.
  public mutating func discard(_ page: Int) {
    guard let slot = slot(of: page) else { return }
    precondition(entries[slot].pins == 0, "page \(page) is being read")
    if entries[slot].state == .stored { unlink(Int32(slot)) }
    free(Int32(slot))
  }

  // MARK: Reading

  /// What has to happen before pages can be read.
  public struct Preparation: Sendable, Hashable {
    /// Pages that the caller brings into slots, which nobody reads before `complete`.
    public var transfers: [Transfer] = []
    /// Pages that others are bringing.
    public var awaited: [Int] = []
  }

  /// A page's way up.
  public struct Transfer: Sendable, Hashable {
    /// The page.
    public let page: Int
    /// Where it goes.
    public let slot: Int
  }

  /// Pins pages that are about to be read, all or none.
  ///
  /// Each is pinned once more than before until it is released.
  /// - Returns: nil, with nothing changed but what was evicted, when there are not as many slots.
  public mutating func prepare(_ pages: some Collection<Int>) -> Preparation? {
    var preparation = Preparation()
    for (index, page) in pages.enumerated() {
      if let slot = rawSlot(of: page) {
        pin(slot)
        if entries[Int(slot)].state == .loading { preparation.awaited.append(page) }
      } else if let slot = take(page, .loading) {
        entries[slot].pins = 1
        preparation.transfers.append(Transfer(page: page, slot: slot))
      } else {
        // What was on its way for others stays so; what this call has begun ends.
        for page in pages.prefix(index) {
          guard let slot = rawSlot(of: page) else { continue }
          if preparation.transfers.contains(where: { $0.page == page }) {
            entries[Int(slot)].pins -= 1
            if entries[Int(slot)].pins == 0 { free(slot) }
          } else {
            unpin(slot)
          }
        }
        return nil
      }
    }
    return preparation
  }

  /// A transfer is done: the page can be read.
  public mutating func complete(_ transfer: Transfer) {
    precondition(entries[transfer.slot].state == .loading)
    entries[transfer.slot].state = .stored
    if entries[transfer.slot].pins == 0 { link(Int32(transfer.slot)) }
  }

  /// A transfer has failed: the page is not here.
  ///
  /// Whoever waits for it finds it gone, and need not release it.
  public mutating func cancel(_ transfer: Transfer) {
    precondition(entries[transfer.slot].state == .loading)
    free(Int32(transfer.slot))
  }

  /// Pages have been read: they are the most recent ones.
  public mutating func release(_ pages: some Collection<Int>) {
    for page in pages {
      if let slot = rawSlot(of: page) { unpin(slot) }
    }
  }

  // MARK: Size

  /// Changes the number of slots; pages that were read least recently go.
  /// - Returns: slots whose memory may go back to the system. Fewer than asked for may go now where pages are pinned
  ///   or not stored yet; the next call goes on.
  public mutating func resize(to newLimit: Int) -> FreedSlots {
    limit = max(0, newLimit)
    var freed: FreedSlots = []
    while touchedCount > limit {
      if warm.isEmpty {
        guard last >= 0 else { break }
        evict()
      }
      guard let slot = warm.popLast() else { break }
      reusesWarm = reusesWarm && !warm.isEmpty
      cold.append(slot)
      touchedCount -= 1
      freed.append(Int(slot))
    }
    return freed
  }

  // MARK: Slots

  private func rawSlot(of page: Int) -> Int32? {
    page < slots.count && slots[page] >= 0 ? slots[page] : nil
  }

  /// A slot for a page.
  ///
  /// One that was never used, so that neighbours come to lie together, then a free one, then that of the least recent
  /// page. Where half of the memory is free, as after a long text, free ones come first, in their order: texts one after
  /// the other need no more memory than the longest of them.
  private mutating func take(_ page: Int, _ state: State) -> Int? {
    let slot: Int32
    if !reusesWarm, !warm.isEmpty, 2 * warm.count >= touchedCount {
      warm.sort(by: >)
      reusesWarm = true
    }
    if reusesWarm, usedCount < limit, let free = warm.popLast() {
      slot = free
      reusesWarm = !warm.isEmpty
    } else if touchedCount < limit {
      if let unused = cold.popLast() {
        slot = unused
      } else {
        slot = Int32(entries.count)
        entries.append(Entry(page: -1, state: .free))
      }
      touchedCount += 1
    } else if usedCount < limit, let free = warm.popLast() {
      slot = free
    } else {
      guard last >= 0 else { return nil }
      evict()
      guard let free = warm.popLast() else { return nil }
      slot = free
    }
    while slots.count <= page { slots.append(-1) }
    slots[page] = slot
    entries[Int(slot)] = Entry(page: Int32(page), state: state)
    return Int(slot)
  }

  private mutating func evict() {
    let slot = last
    unlink(slot)
    free(slot)
  }

  private mutating func free(_ slot: Int32) {
    slots[Int(entries[Int(slot)].page)] = -1
    entries[Int(slot)] = Entry(page: -1, state: .free)
    warm.append(slot)
  }

  private mutating func pin(_ slot: Int32) {
    if entries[Int(slot)].pins == 0, entries[Int(slot)].state == .stored { unlink(slot) }
    entries[Int(slot)].pins += 1
  }

  private mutating func unpin(_ slot: Int32) {
    guard entries[Int(slot)].pins > 0 else { return }
    entries[Int(slot)].pins -= 1
    if entries[Int(slot)].pins == 0, entries[Int(slot)].state == .stored { link(slot) }
  }

  private mutating func link(_ slot: Int32) {
    entries[Int(slot)].before = -1
    entries[Int(slot)].after = first
    if first >= 0 { entries[Int(first)].before = slot } else { last = slot }
    first = slot
    evictableCount += 1
  }

  private mutating func unlink(_ slot: Int32) {
    let entry = entries[Int(slot)]
    if entry.before >= 0 {
      entries[Int(entry.before)].after = entry.after
    } else {
      first = entry.after
    }
    if entry.after >= 0 {
      entries[Int(entry.after)].before = entry.before
    } else {
      last = entry.before
    }
    evictableCount -= 1
  }
}
