// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPKVStore
internal import HiPTensors
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Pages of keys and values in slots of slabs, above a lower tier: brings what threads are about to read.
///
/// Threads pin what they read by `hold`; all else belongs to the engine's thread.
final class CPUPages: Sendable {
  let format: KVFormat
  private let ledger: MemoryLedger
  private let state: Mutex<State>
  /// What is read in place of a page that could not be brought; the step is void then.
  private nonisolated(unsafe) let nothing: UnsafeMutablePointer<UInt8>

  private struct State: Sendable {
    var residency: Residency
    var slabs: [Slab] = []
    /// Where each block lies below, by its number.
    var places: [LowerPlace?] = []
    var traffic: PageTraffic
  }

  private let pageByteCount: Int
  private let pagesPerBlock: Int
  private let slotsPerSlab: Int
  /// Threads that read at once.
  private let readers: Int

  /// Times that a thread waits for slots that others have pinned: about two seconds.
  private static let patience = 30_000
  /// Pages that are prefetched together.
  private static let prefetchedPages = 8
  /// Pages that a thread holds at a time, about.
  private static let heldPages = 256

  init(_ format: KVFormat, readers: Int, _ ledger: MemoryLedger) {
    self.readers = readers
    self.format = format
    self.ledger = ledger
    pageByteCount = format.pageByteCount
    pagesPerBlock = format.pagesPerBlock
    slotsPerSlab = max(1, (16 << 20) / format.pageByteCount)
    nothing = .allocate(capacity: format.pageByteCount)
    nothing.initialize(repeating: 0, count: format.pageByteCount)
    state = Mutex(
      State(residency: Residency(limit: 0), traffic: PageTraffic(layerCount: format.layerCount)))
  }

  deinit { nothing.deallocate() }

  /// The page of a head's keys or values.
  func page(_ kind: CPUBlockTable.Kind, layer: Int, kvHead: Int) -> Int {
    layer * format.pagesPerLayer + (kind == .keys ? 0 : format.shape.kvHeads) + kvHead
  }

  private func number(_ page: Int, of block: Int32) -> Int { Int(block) * pagesPerBlock + page }

  private func address(_ slot: Int, _ state: borrowing State) -> UnsafeMutablePointer<UInt8> {
    state.slabs[slot / slotsPerSlab].start + slot % slotsPerSlab * pageByteCount
  }

  /// Makes sure that a slot has memory; false when there is none.
  private func cover(_ slot: Int, _ state: inout State) -> Bool {
    do {
      while state.slabs.count <= slot / slotsPerSlab {
        state.slabs.append(try Slab(byteCount: slotsPerSlab * pageByteCount))
        ledger.countAllocation()
      }
      return true
    } catch {
      ledger.countFailure(error)
      return false
    }
  }

  // MARK: Writing

  /// Where the pages of some blocks in a layer are written, `[block][keys of heads, values of heads]`; new ones get
  /// slots, neighbours side by side.
  func open(_ blocks: ArraySlice<Int32>, layer: Int) -> [UnsafeMutablePointer<UInt8>] {
    let perLayer = format.pagesPerLayer
    var addresses = [UnsafeMutablePointer<UInt8>](
      repeating: nothing, count: blocks.count * perLayer)
    state.withLock { state in
      for page in 0..<perLayer {
        for (index, block) in blocks.enumerated() {
          let number = number(layer * perLayer + page, of: block)
          let known = state.residency.slot(of: number)
          guard let slot = known ?? state.residency.add(number) else {
            ledger.countFailure(tooSmall)
            continue
          }
          guard cover(slot, &state) else {
            state.residency.discard(number)
            continue
          }
          let address = address(slot, state)
          addresses[index * perLayer + page] = address
          // What another page left would be stored behind the last token.
          if known == nil { address.update(repeating: 0, count: pageByteCount) }
        }
      }
    }
    return addresses
  }

  private var tooSmall: ComputeError {
    ComputeError(
      .outOfMemory(neededBytes: pageByteCount),
      "all pages of keys and values in memory are in use at once; raise --kv-ram")
  }

  // MARK: Reading

  /// Pins the pages of some blocks, brings those that lie below, and writes where each is.
  /// - Parameter pages: numbers of the pages in their blocks; of each the addresses go to the table beside it.
  /// - Returns: what is to be released.
  func hold(
    _ places: [Int32], of blocks: [Int32],
    _ pages: [(page: Int, addresses: UnsafeMutablePointer<UnsafePointer<UInt8>?>)]
  ) -> [Int] {
    var numbers: [Int] = []
    numbers.reserveCapacity(places.count * pages.count)
    for (page, _) in pages {
      for place in places { numbers.append(number(page, of: blocks[Int(place)])) }
    }
    let isHeld = bring(numbers) { state in
      var next = 0
      for (_, addresses) in pages {
        for place in places {
          if let slot = state.residency.pinnedSlot(of: numbers[next]) {
            addresses[Int(place)] = UnsafePointer(address(slot, state))
          } else {
            addresses[Int(place)] = UnsafePointer(nothing)
          }
          next += 1
        }
      }
    }
    return isHeld ? numbers : []
  }

  /// Ends a `hold`.
  func release(_ numbers: [Int]) { state.withLock { $0.residency.release(numbers) } }

  /// Pins pages and brings those that lie below; `use` learns where all of them are.
  /// - Returns: false when it could not; the ledger has the reason, and nothing is pinned.
  private func bring(_ numbers: [Int], use: (borrowing State) -> Void) -> Bool {
    var plan: (preparation: Residency.Preparation, reads: [Read])?
    for attempt in 0..<Self.patience {
      plan = state.withLock { prepare(numbers, &$0, use) }
      // A void step need not wait.
      if plan != nil || ledger.hasFailure { break }
      // Others will let go of theirs.
      if attempt > 100 { usleep(50) } else { sched_yield() }
    }
    guard let (preparation, reads) = plan else {
      ledger.countFailure(tooSmall)
      use(State(residency: Residency(limit: 0), traffic: PageTraffic(layerCount: 0)))
      return false
    }
    guard !preparation.transfers.isEmpty || !preparation.awaited.isEmpty else { return true }
    let failure = read(reads)
    state.withLock { state in
      for transfer in preparation.transfers {
        if failure == nil {
          state.residency.complete(transfer)
        } else {
          // The page is gone, though its memory can be read: the step is void.
          state.residency.cancel(transfer)
        }
      }
    }
    if let failure { ledger.countFailure(failure) }
    var waiting = preparation.awaited
    while !waiting.isEmpty {
      waiting = state.withLock { state in
        waiting.filter {
          state.residency.slot(of: $0) == nil && state.residency.pinnedSlot(of: $0) != nil
        }
      }
      if !waiting.isEmpty { usleep(20) }
    }
    return true
  }

  private struct Read: @unchecked Sendable {
    let transfer: Residency.Transfer
    let place: LowerPlace?
    let page: Int
    let destination: UnsafeMutablePointer<UInt8>
  }

  private func prepare(
    _ numbers: [Int], _ state: inout State, _ use: (borrowing State) -> Void
  ) -> (Residency.Preparation, [Read])? {
    guard let preparation = state.residency.prepare(numbers) else { return nil }
    var reads: [Read] = []
    for transfer in preparation.transfers {
      guard cover(transfer.slot, &state) else {
        for transfer in preparation.transfers { state.residency.cancel(transfer) }
        state.residency.release(numbers)
        return nil
      }
      let (block, page) = transfer.page.quotientAndRemainder(dividingBy: pagesPerBlock)
      reads.append(
        Read(
          transfer: transfer, place: block < state.places.count ? state.places[block] : nil,
          page: page, destination: address(transfer.slot, state)))
      state.traffic.misses[page / format.pagesPerLayer] += 1
    }
    for number in numbers { state.traffic.hits[number % pagesPerBlock / format.pagesPerLayer] += 1 }
    for read in reads { state.traffic.hits[read.page / format.pagesPerLayer] -= 1 }
    use(state)
    return (preparation, reads)
  }

  /// Reads pages from below, tier by tier.
  private func read(_ reads: [Read]) -> ComputeError? {
    var failure: ComputeError?
    var tiers: [ObjectIdentifier: (tier: any LowerTier, reads: [PageRead])] = [:]
    for read in reads {
      guard let place = read.place else {
        failure = ComputeError(.lowerTier, "a page of keys or values lies in no tier")
        continue
      }
      tiers[ObjectIdentifier(place.tier), default: (place.tier, [])].reads.append(
        PageRead(page: read.page, block: place.block, destination: read.destination))
    }
    // Of few pages the first is read before the system has begun with the others.
    if reads.count >= Self.prefetchedPages {
      for (tier, reads) in tiers.values { tier.prefetch(reads) }
    }
    for (tier, reads) in tiers.values {
      do {
        try tier.read(reads)
      } catch {
        failure = error
      }
    }
    return failure
  }
}

// MARK: The engine's side

extension CPUPages {
  func resize(toByteCount byteCount: Int) {
    state.withLock { state in
      let freed = state.residency.resize(to: max(0, byteCount) / pageByteCount)
      for slot in freed where slot / slotsPerSlab < state.slabs.count {
        let start = slot % slotsPerSlab * pageByteCount
        state.slabs[slot / slotsPerSlab].giveBack(start..<start + pageByteCount)
      }
    }
  }

  func hasRoom(forBlocks count: Int) -> Bool {
    // Whoever reads needs some, too.
    state.withLock { state in
      let reading = min(readers * Self.heldPages, state.residency.limit / 4)
      return state.residency.availableCount >= count * pagesPerBlock + reading
    }
  }

  /// Whether pages are so few that threads hold those of one tile at a time.
  var isTight: Bool {
    state.withLock { $0.residency.limit < 16 * readers * Self.heldPages }
  }

  var traffic: PageTraffic {
    state.withLock { state in
      var traffic = state.traffic
      traffic.residentByteCount = state.residency.usedCount * pageByteCount
      return traffic
    }
  }

  /// Pages of a block that lie somewhere.
  private func livingPages(of block: BlockID) -> [Int] {
    state.withLock { state in
      let place = block.index < state.places.count ? state.places[block.index] : nil
      return (0..<pagesPerBlock).filter { page in
        state.residency.slot(of: number(page, of: Int32(block.index))) != nil
          || (place?.tier.hasPage(page, ofBlock: place?.block ?? 0) ?? false)
      }
    }
  }

  /// Pins all pages of a block; where they lie, nil for those that nobody will read again.
  func pin(_ block: BlockID) throws(ComputeError) -> [UnsafeRawPointer?] {
    let living = livingPages(of: block)
    var addresses = [UnsafeRawPointer?](repeating: nil, count: pagesPerBlock)
    let numbers = living.map { number($0, of: Int32(block.index)) }
    let isHeld = bring(numbers) { state in
      for (page, number) in zip(living, numbers) {
        addresses[page] = state.residency.pinnedSlot(of: number).map {
          UnsafeRawPointer(address($0, state))
        }
      }
    }
    if let failure = ledger.takeFailure() {
      if isHeld { release(numbers) }
      throw failure
    }
    return addresses
  }

  func unpin(_ block: BlockID, _ pages: [UnsafeRawPointer?]) {
    release(
      pages.indices.filter { pages[$0] != nil }.map { number($0, of: Int32(block.index)) })
  }

  /// Gives all pages of a block room of their own, for a copy of another block.
  func copy(from source: BlockID, to destination: BlockID) throws(ComputeError) {
    let from = try pin(source)
    defer { unpin(source, from) }
    for layer in 0..<format.layerCount {
      let to = open([Int32(destination.index)], layer: layer)
      for (page, address) in to.enumerated() {
        guard let source = from[layer * format.pagesPerLayer + page] else { continue }
        UnsafeMutableRawPointer(address).copyMemory(from: source, byteCount: pageByteCount)
      }
    }
    if let failure = ledger.takeFailure() { throw failure }
  }

  func place(_ block: BlockID, at place: LowerPlace?) {
    state.withLock { state in
      while state.places.count <= block.index { state.places.append(nil) }
      state.places[block.index] = place
      guard place != nil else { return }
      for page in 0..<pagesPerBlock {
        state.residency.markStored(number(page, of: Int32(block.index)))
      }
    }
  }

  func lowerPlace(of block: BlockID) -> LowerPlace? {
    state.withLock { block.index < $0.places.count ? $0.places[block.index] : nil }
  }

  func makeWritable(_ block: BlockID) throws(ComputeError) {
    let pages = try pin(block)
    state.withLock { state in
      for page in pages.indices where pages[page] != nil {
        state.residency.markNew(number(page, of: Int32(block.index)))
      }
    }
    unpin(block, pages)
    place(block, at: nil)
  }

  /// Forgets pages of a block, those of all layers or of some.
  func discard(_ block: BlockID, layers: [Int]? = nil) {
    state.withLock { state in
      let pages = (layers ?? Array(0..<format.layerCount)).flatMap { layer in
        (0..<format.pagesPerLayer).map { layer * format.pagesPerLayer + $0 }
      }
      for page in pages { state.residency.discard(number(page, of: Int32(block.index))) }
      if layers == nil, block.index < state.places.count { state.places[block.index] = nil }
    }
  }
}
