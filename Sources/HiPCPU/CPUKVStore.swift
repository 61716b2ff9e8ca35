// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute
internal import HiPKVStore
internal import HiPTensors

/// Blocks in slots of slabs that are taken as needed, so that a context costs what it holds.
///
/// A slab holds its slots layer by layer, 16 neighbours together: of those the keys of one head after the other,
/// `[kvHeads, 16, blockSize, headSize]`, then the values. A sequence's slots are mostly neighbours, so that as
/// much lies in a row as with blocks of 16 times the size. Sketches lie likewise, in slabs of their own.
///
/// Above a lower tier keys and values lie in `pages` instead; sketches have their slots all the same.
final class CPUKVStore: KVStore {
  let format: KVFormat
  private let ledger: MemoryLedger
  /// Keys and values above a lower tier; nil: they lie in the slots.
  let pages: CPUPages?
  /// Pages that are held for whoever stores them below, and layers that nobody will read when that is done.
  private var held: [BlockID: Held] = [:]
  /// Slot of each block; -1: none.
  private var slots: [Int32] = []
  private var isTaken: [Bool] = []
  /// Slots that some block has had since their slab was made.
  private var isUsed: [Bool] = []
  /// Slots whose sliding layers nobody will read again.
  private var isReleased: [Bool] = []
  /// No slot before it is free: the first free one is taken, so that a sequence's slots are neighbours.
  private var firstFree = 0
  /// Slots of a slab: about 16 MB of them, so that large memory blocks can hold them.
  private let slabLength: Int
  private var slabs: [BlockSlab?] = []

  private struct BlockSlab {
    /// Nil above a lower tier.
    let rows: Slab?
    /// One for each sketch.
    let sketches: [Slab]
  }

  private struct Held {
    var count: Int
    let pages: [UnsafeRawPointer?]
    var isReleased = false
  }

  /// Slots that lie together.
  private static let neighbours = 16

  /// - Parameter readers: threads that read at once.
  init(_ format: KVFormat, _ placement: KVPlacement, readers: Int, _ ledger: MemoryLedger) {
    self.format = format
    self.ledger = ledger
    pages =
      switch placement {
      case .memory: nil
      case .tiered: CPUPages(format, readers: readers, ledger)
      }
    // Above a lower tier slabs hold sketches only.
    let bytes =
      pages == nil
      ? format.layerCount * format.rowsByteCount
      : max(4096, format.layerCount * format.shape.kvHeads * format.sketchBytesPerHead)
    slabLength = max(1, (16 << 20) / (bytes * Self.neighbours)) * Self.neighbours
  }

  func provide(_ blocks: [BlockID]) throws(ComputeError) {
    for (index, block) in blocks.enumerated() {
      do throws(ComputeError) {
        try provide(block)
      } catch {
        for block in blocks[..<index] { discard(block) }
        throw error
      }
    }
  }

  private func provide(_ block: BlockID) throws(ComputeError) {
    while slots.count <= block.index { slots.append(-1) }
    precondition(slots[block.index] < 0, "block \(block.index) has its slot already")
    while firstFree < isTaken.count, isTaken[firstFree] { firstFree += 1 }
    let slot = firstFree
    let slab = slot / slabLength
    if slab == slabs.count {
      slabs.append(nil)
      isTaken += [Bool](repeating: false, count: slabLength)
      isUsed += [Bool](repeating: false, count: slabLength)
      isReleased += [Bool](repeating: false, count: slabLength)
    }
    if slabs[slab] == nil {
      do {
        let rows =
          pages == nil
          ? try Slab(byteCount: slabLength * format.layerCount * format.rowsByteCount) : nil
        slabs[slab] = BlockSlab(
          rows: rows,
          sketches: try format.sketches.map { sketch throws(MemoryError) in
            try Slab(byteCount: format.layerCount * layerByteCount(sketch))
          })
        ledger.countAllocation()
      } catch {
        throw ComputeError(error)
      }
    }
    isTaken[slot] = true
    isReleased[slot] = false
    slots[block.index] = Int32(slot)
    // What another block left would be stored behind the last chunk.
    if pages != nil, isUsed[slot] {
      forEachSketch(of: block) { $0.update(repeating: 0, count: $1) }
    }
    isUsed[slot] = true
  }

  /// Neighbours lie together: their pages go back to the system when none of them is needed.
  func releaseSliding(_ block: BlockID) {
    guard let sliding = format.sliding, slots[block.index] >= 0 else { return }
    if let pages {
      if held[block] == nil {
        pages.discard(block, layers: sliding.layers)
      } else {
        held[block]?.isReleased = true
      }
      return
    }
    let slot = Int(slots[block.index])
    isReleased[slot] = true
    let first = slot / Self.neighbours * Self.neighbours
    let group = first..<first + Self.neighbours
    guard group.allSatisfy({ isReleased[$0] || !isTaken[$0] }),
      let slab = slabs[slot / slabLength]?.rows
    else { return }
    let bytes = Self.neighbours * format.rowsByteCount
    for layer in sliding.layers {
      let offset =
        layer * slabLength * format.rowsByteCount + first % slabLength * format.rowsByteCount
      slab.giveBack(offset..<offset + bytes)
    }
  }

  func discard(_ block: BlockID) {
    guard slots.indices.contains(block.index), slots[block.index] >= 0 else { return }
    precondition(held[block] == nil, "block \(block.index) is being stored")
    pages?.discard(block)
    let slot = Int(slots[block.index])
    slots[block.index] = -1
    isTaken[slot] = false
    firstFree = min(firstFree, slot)
    let slab = slot / slabLength
    if !isTaken[slab * slabLength..<(slab + 1) * slabLength].contains(true) {
      slabs[slab] = nil
      for slot in slab * slabLength..<(slab + 1) * slabLength { isUsed[slot] = false }
    }
  }

  func copy(from source: BlockID, to destination: BlockID) throws(ComputeError) {
    try pages?.copy(from: source, to: destination)
    let (from, to) = (place(of: source), place(of: destination))
    for layer in 0..<format.layerCount {
      if let source = from.rows, let rows = to.rows {
        // Keys, then values, of all heads.
        for head in 0..<2 * format.shape.kvHeads {
          let offset = keyOffset(layer: layer, kvHead: head)
          (rows + offset).update(from: source + offset, count: format.pageByteCount)
        }
      }
      for (index, sketch) in format.sketches.enumerated() {
        for head in 0..<format.shape.kvHeads {
          let offset = sketchOffset(sketch, layer: layer, kvHead: head)
          (to.sketches[index] + offset).update(
            from: from.sketches[index] + offset, count: format.byteCount(sketch))
        }
      }
    }
  }

  func makeTable() -> any DeviceBlockTable { CPUBlockTable(self) }
  func makeSelectionState() -> any SelectionState { CPUSelectionState(format.layerCount) }
  func makeHeavyHitterState() -> any HeavyHitterState { CPUHeavyHitterState(format.layerCount) }

  // MARK: Addresses

  /// Where a block lies: the offsets below are counted from there.
  struct Place {
    /// Nil above a lower tier.
    let rows: UnsafeMutablePointer<UInt8>?
    /// One for each sketch of the format.
    let sketches: [UnsafeMutablePointer<UInt8>]
  }

  func place(of block: BlockID) -> Place {
    let slot = Int(slots[block.index])
    precondition(slot >= 0, "block \(block.index) has no slot")
    let (slab, inside) = slot.quotientAndRemainder(dividingBy: slabLength)
    guard let slab = slabs[slab] else { preconditionFailure("slab \(slab) is gone") }
    let (group, member) = inside.quotientAndRemainder(dividingBy: Self.neighbours)
    return Place(
      rows: slab.rows.map {
        $0.start + group * Self.neighbours * format.rowsByteCount + member * format.pageByteCount
      },
      sketches: zip(format.sketches, slab.sketches).map { sketch, slab in
        let bytes = format.byteCount(sketch)
        return slab.start + group * Self.neighbours * format.shape.kvHeads * bytes + member * bytes
      })
  }

  /// Bytes from a block's place to the keys of a head.
  func keyOffset(layer: Int, kvHead: Int) -> Int {
    layer * slabLength * format.rowsByteCount + kvHead * Self.neighbours * format.pageByteCount
  }

  /// Bytes from a block's place to the values of a head.
  func valueOffset(layer: Int, kvHead: Int) -> Int {
    keyOffset(layer: layer, kvHead: kvHead + format.shape.kvHeads)
  }

  /// Bytes of a sketch of all slots of a slab in one layer.
  private func layerByteCount(_ sketch: KeySketch) -> Int {
    slabLength * format.shape.kvHeads * format.byteCount(sketch)
  }

  /// Bytes from a block's place among the sketches to that of a head.
  func sketchOffset(_ sketch: KeySketch, layer: Int, kvHead: Int) -> Int {
    layer * layerByteCount(sketch) + kvHead * Self.neighbours * format.byteCount(sketch)
  }
}

// MARK: Pages

extension CPUKVStore: PagedStore {
  var paged: (any PagedStore)? { pages == nil ? nil : self }

  /// Pages of a store that is above a lower tier.
  private var tiered: CPUPages {
    guard let pages else { preconditionFailure("the store has no lower tier") }
    return pages
  }

  func resize(toByteCount byteCount: Int) { tiered.resize(toByteCount: byteCount) }
  func hasRoom(forBlocks count: Int) -> Bool { tiered.hasRoom(forBlocks: count) }
  func lowerPlace(of block: BlockID) -> LowerPlace? { tiered.lowerPlace(of: block) }
  func markStored(_ block: BlockID, at place: LowerPlace) { tiered.place(block, at: place) }
  func makeWritable(_ block: BlockID) throws(ComputeError) { try tiered.makeWritable(block) }
  var traffic: PageTraffic { tiered.traffic }

  func hold(_ block: BlockID) throws(ComputeError) -> BlockContents {
    let pages =
      if let entry = held[block] { entry.pages } else { try tiered.pin(block) }
    held[block, default: Held(count: 0, pages: pages)].count += 1
    var sketches: [UInt8] = []
    sketches.reserveCapacity(format.sketchByteCount)
    forEachSketch(of: block) { sketches += UnsafeBufferPointer(start: $0, count: $1) }
    return BlockContents(pages: pages, sketches: sketches)
  }

  func letGo(_ block: BlockID) {
    guard var entry = held[block] else { return }
    entry.count -= 1
    held[block] = entry.count > 0 ? entry : nil
    guard entry.count == 0 else { return }
    tiered.unpin(block, entry.pages)
    if entry.isReleased { releaseSliding(block) }
  }

  func restore(_ block: BlockID, from place: LowerPlace, sketches: UnsafeRawBufferPointer) {
    var source = sketches.baseAddress
    forEachSketch(of: block) { address, count in
      guard let from = source else { return }
      UnsafeMutableRawPointer(address).copyMemory(from: from, byteCount: count)
      source = from + count
    }
    tiered.place(block, at: place)
  }

  /// The sketches of a block, in the order in which they are stored.
  private func forEachSketch(
    of block: BlockID, _ body: (UnsafeMutablePointer<UInt8>, _ byteCount: Int) -> Void
  ) {
    let at = place(of: block)
    for (index, sketch) in format.sketches.enumerated() {
      for layer in 0..<format.layerCount where format.keepsSketches(layer) {
        for head in 0..<format.shape.kvHeads {
          body(
            at.sketches[index] + sketchOffset(sketch, layer: layer, kvHead: head),
            format.byteCount(sketch))
        }
      }
    }
  }
}
