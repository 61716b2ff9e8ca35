// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute
internal import HiPKVStore
internal import HiPTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Blocks in slots of slabs that are taken as needed, so that a context costs what it holds.
///
/// A slab holds its slots layer by layer, 16 neighbours together: of those the keys of one head after the other,
/// `[kvHeads, 16, blockSize, headSize]`, then the values. A sequence's slots are mostly neighbours, so that as
/// much lies in a row as with blocks of 16 times the size. Sketches lie likewise, in slabs of their own.
final class CPUKVStore: KVStore {
  let format: KVFormat
  private let ledger: MemoryLedger
  /// Slot of each block; -1: none.
  private var slots: [Int32] = []
  private var isTaken: [Bool] = []
  /// Slots whose sliding layers nobody will read again.
  private var isReleased: [Bool] = []
  /// No slot before it is free: the first free one is taken, so that a sequence's slots are neighbours.
  private var firstFree = 0
  /// Slots of a slab: about 16 MB of them, so that large memory blocks can hold them.
  private let slabLength: Int
  private var rowSlabs: [Slab?] = []
  /// One for each sketch, `[slab][sketch]`.
  private var sketchSlabs: [[Slab]] = []

  /// Slots that lie together.
  private static let neighbours = 16

  init(_ format: KVFormat, _ ledger: MemoryLedger) {
    self.format = format
    self.ledger = ledger
    let bytes = format.layerCount * format.rowsByteCount
    slabLength = max(1, (16 << 20) / (bytes * Self.neighbours)) * Self.neighbours
  }

  func provide(_ block: BlockID) throws(ComputeError) {
    while slots.count <= block.index { slots.append(-1) }
    precondition(slots[block.index] < 0, "block \(block.index) has its slot already")
    while firstFree < isTaken.count, isTaken[firstFree] { firstFree += 1 }
    let slot = firstFree
    let slab = slot / slabLength
    if slab == rowSlabs.count {
      rowSlabs.append(nil)
      sketchSlabs.append([])
      isTaken += [Bool](repeating: false, count: slabLength)
      isReleased += [Bool](repeating: false, count: slabLength)
    }
    if rowSlabs[slab] == nil {
      do {
        let rows = try Slab(byteCount: slabLength * format.layerCount * format.rowsByteCount)
        sketchSlabs[slab] = try format.sketches.map { sketch throws(MemoryError) in
          try Slab(byteCount: format.layerCount * layerByteCount(sketch))
        }
        rowSlabs[slab] = rows
        ledger.countAllocation()
      } catch {
        throw ComputeError(error)
      }
    }
    isTaken[slot] = true
    isReleased[slot] = false
    slots[block.index] = Int32(slot)
  }

  /// Neighbours lie together: their pages go back to the system when none of them is needed.
  func releaseSliding(_ block: BlockID) {
    guard let sliding = format.sliding, slots[block.index] >= 0 else { return }
    let slot = Int(slots[block.index])
    isReleased[slot] = true
    let first = slot / Self.neighbours * Self.neighbours
    let group = first..<first + Self.neighbours
    guard group.allSatisfy({ isReleased[$0] || !isTaken[$0] }),
      let slab = rowSlabs[slot / slabLength]
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
    let slot = Int(slots[block.index])
    slots[block.index] = -1
    isTaken[slot] = false
    firstFree = min(firstFree, slot)
    let slab = slot / slabLength
    if !isTaken[slab * slabLength..<(slab + 1) * slabLength].contains(true) {
      rowSlabs[slab] = nil
      sketchSlabs[slab] = []
    }
  }

  func copy(from source: BlockID, to destination: BlockID) {
    let (from, to) = (place(of: source), place(of: destination))
    for layer in 0..<format.layerCount {
      // Keys, then values, of all heads.
      for head in 0..<2 * format.shape.kvHeads {
        let offset = keyOffset(layer: layer, kvHead: head)
        (to.rows + offset).update(from: from.rows + offset, count: headByteCount)
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
    let rows: UnsafeMutablePointer<UInt8>
    /// One for each sketch of the format.
    let sketches: [UnsafeMutablePointer<UInt8>]
  }

  func place(of block: BlockID) -> Place {
    let slot = Int(slots[block.index])
    precondition(slot >= 0, "block \(block.index) has no slot")
    let (slab, inside) = slot.quotientAndRemainder(dividingBy: slabLength)
    guard let rows = rowSlabs[slab] else { preconditionFailure("slab \(slab) is gone") }
    let (group, member) = inside.quotientAndRemainder(dividingBy: Self.neighbours)
    return Place(
      rows: rows.start + group * Self.neighbours * format.rowsByteCount + member * headByteCount,
      sketches: zip(format.sketches, sketchSlabs[slab]).map { sketch, slab in
        let bytes = format.byteCount(sketch)
        return slab.start + group * Self.neighbours * format.shape.kvHeads * bytes + member * bytes
      })
  }

  /// Bytes of the keys, or the values, of a head in a block.
  private var headByteCount: Int { format.blockSize * format.rowByteCount }

  /// Bytes from a block's place to the keys of a head.
  func keyOffset(layer: Int, kvHead: Int) -> Int {
    layer * slabLength * format.rowsByteCount + kvHead * Self.neighbours * headByteCount
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

/// Memory straight from the system: nothing is committed before it is written, and large memory
/// blocks are asked for, because selected keys lie scattered over all of it.
private final class Slab {
  let start: UnsafeMutablePointer<UInt8>
  private let mapping: HostBuffer<UInt8>

  private static let alignment = 2 << 20

  init(byteCount: Int) throws(MemoryError) {
    mapping = try HostBuffer<UInt8>(count: byteCount + Self.alignment)
    // A HostBuffer is never empty.
    let address = UnsafeMutableRawPointer(mapping.elements.baseAddress.unsafelyUnwrapped)
      .alignedUp(toMultipleOf: Self.alignment)
    #if canImport(Glibc) || canImport(Musl)
      // Advice: without it everything works, only slower.
      _ = madvise(address, byteCount, MADV_HUGEPAGE)
    #endif
    start = address.assumingMemoryBound(to: UInt8.self)
  }

  /// Lets the system have the whole pages of a part, which reads as zeros from then on.
  func giveBack(_ range: Range<Int>) {
    let page = Int(getpagesize())
    let address = UnsafeMutableRawPointer(start + range.lowerBound).alignedUp(toMultipleOf: page)
    let end = UnsafeMutableRawPointer(start + range.upperBound).alignedDown(toMultipleOf: page)
    guard address < end else { return }
    // Where that fails the memory merely stays.
    _ = madvise(address, end - address, MADV_DONTNEED)
  }
}

/// Addresses of a sequence's blocks.
final class CPUBlockTable: DeviceBlockTable {
  let store: CPUKVStore
  private(set) var rows: [UnsafePointer<UInt8>?] = []
  /// Addresses among the sketches, `[sketch][block]`.
  private(set) var sketches: [[UnsafePointer<UInt8>?]]

  init(_ store: CPUKVStore) {
    self.store = store
    sketches = .init(repeating: [], count: store.format.sketches.count)
  }

  func set(place: Int, to block: BlockID) {
    func put(_ address: UnsafeMutablePointer<UInt8>, _ list: inout [UnsafePointer<UInt8>?]) {
      if place == list.count {
        list.append(UnsafePointer(address))
      } else {
        list[place] = UnsafePointer(address)
      }
    }
    let at = store.place(of: block)
    put(at.rows, &rows)
    for (index, address) in at.sketches.enumerated() { put(address, &sketches[index]) }
  }

  func removeLast(_ count: Int) {
    rows.removeLast(count)
    for index in sketches.indices { sketches[index].removeLast(count) }
  }

  /// Keys or values.
  enum Kind { case keys, values }

  /// Where a token's key or value of a head lies.
  func address(
    _ kind: Kind, layer: Int, kvHead: Int, position: Int
  ) -> UnsafeMutablePointer<UInt8>? {
    let (block, inside) = position.quotientAndRemainder(dividingBy: store.format.blockSize)
    return rows[block].map {
      UnsafeMutablePointer(mutating: $0) + offset(kind, layer: layer, kvHead: kvHead)
        + inside * store.format.rowByteCount
    }
  }

  /// The group of a sketch that holds its row `row` of a head, and the row's place in it.
  func group(
    _ index: Int, layer: Int, kvHead: Int, row: Int
  ) -> (address: UnsafeMutablePointer<UInt8>, place: Int)? {
    let sketch = store.format.sketches[index]
    let (group, place) = row.quotientAndRemainder(dividingBy: KVFormat.groupSize)
    let (block, inside) = group.quotientAndRemainder(
      dividingBy: store.format.groupsPerBlock(sketch))
    guard let address = sketches[index][block] else { return nil }
    return (
      UnsafeMutablePointer(mutating: address)
        + store.sketchOffset(sketch, layer: layer, kvHead: kvHead)
        + inside * store.format.groupByteCount(sketch), place
    )
  }

  private func offset(_ kind: Kind, layer: Int, kvHead: Int) -> Int {
    switch kind {
    case .keys: store.keyOffset(layer: layer, kvHead: kvHead)
    case .values: store.valueOffset(layer: layer, kvHead: kvHead)
    }
  }

  /// Calls `body` with the keys or values of a head, a row per token.
  func withRows<Result>(
    _ kind: Kind, layer: Int, kvHead: Int, _ body: (inout ihp_rows) -> Result
  ) -> Result {
    let format = store.format
    return rows.withUnsafeBufferPointer { blocks in
      var rows = ihp_rows(
        blocks: blocks.baseAddress, block_shift: UInt32(format.blockSize.trailingZeroBitCount),
        element: format.element.kernelElement,
        offset: offset(kind, layer: layer, kvHead: kvHead), stride: format.rowByteCount)
      return body(&rows)
    }
  }

  /// Calls `body` with the groups of a sketch of a head's keys.
  func withGroups(
    _ sketch: KeySketch, layer: Int, kvHead: Int, _ body: (inout ihp_rows) -> Void
  ) {
    let format = store.format
    guard let index = format.sketches.firstIndex(of: sketch) else {
      preconditionFailure("the cache keeps no \(sketch)")
    }
    sketches[index].withUnsafeBufferPointer { blocks in
      var rows = ihp_rows(
        blocks: blocks.baseAddress,
        block_shift: UInt32(format.groupsPerBlock(sketch).trailingZeroBitCount), element: IHP_F32,
        offset: store.sketchOffset(sketch, layer: layer, kvHead: kvHead),
        stride: format.groupByteCount(sketch))
      body(&rows)
    }
  }
}

extension AttentionInput {
  /// The blocks, which the CPU has made itself.
  var blocks: CPUBlockTable { table.onCPU }
}

extension DeviceBlockTable {
  var onCPU: CPUBlockTable {
    precondition(
      type(of: self) == CPUBlockTable.self, "blocks of another device were given to the CPU")
    return unsafeDowncast(self, to: CPUBlockTable.self)
  }
}
