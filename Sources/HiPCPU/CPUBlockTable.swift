// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute
internal import HiPKVStore

/// Addresses of a sequence's blocks.
final class CPUBlockTable: DeviceBlockTable {
  let store: CPUKVStore
  /// Numbers of the blocks.
  private(set) var blocks: [Int32] = []
  /// Addresses of the keys and values, nil above a lower tier, where their pages come and go.
  private var rows: [UnsafePointer<UInt8>?] = []
  /// Addresses among the sketches, `[sketch][block]`.
  private var sketches: [[UnsafePointer<UInt8>?]]

  init(_ store: CPUKVStore) {
    self.store = store
    sketches = .init(repeating: [], count: store.format.sketches.count)
  }

  func set(place: Int, to block: BlockID) {
    func put<Element>(_ element: Element, _ list: inout [Element]) {
      if place == list.count { list.append(element) } else { list[place] = element }
    }
    let at = store.place(of: block)
    put(Int32(block.index), &blocks)
    put(at.rows.map { UnsafePointer($0) }, &rows)
    for (index, address) in at.sketches.enumerated() {
      put(UnsafePointer(address), &sketches[index])
    }
  }

  func removeLast(_ count: Int) {
    blocks.removeLast(count)
    rows.removeLast(count)
    for index in sketches.indices { sketches[index].removeLast(count) }
  }

  /// Keys or values.
  enum Kind { case keys, values }

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

  /// Calls `body` with the keys or values of a head, a row per token; above a lower tier only those that `held` holds
  /// may be read.
  func withRows<Result>(
    _ kind: Kind, layer: Int, kvHead: Int, _ held: HeldPages,
    _ body: (UnsafePointer<ihp_rows>) -> Result
  ) -> Result {
    let format = store.format
    func rows(_ blocks: UnsafePointer<UnsafePointer<UInt8>?>?, _ offset: Int) -> ihp_rows {
      ihp_rows(
        blocks: blocks, block_shift: UInt32(format.blockSize.trailingZeroBitCount),
        element: format.element.kernelElement, offset: offset, stride: format.rowByteCount)
    }
    guard store.pages == nil else {
      return withUnsafePointer(to: rows(held.addresses(kind, count: blocks.count), 0), body)
    }
    return self.rows.withUnsafeBufferPointer { blocks in
      withUnsafePointer(
        to: rows(blocks.baseAddress, offset(kind, layer: layer, kvHead: kvHead)), body)
    }
  }

  /// Calls `body` with the groups of a sketch of a head's keys.
  func withGroups(
    _ sketch: KeySketch, layer: Int, kvHead: Int, _ body: (UnsafePointer<ihp_rows>) -> Void
  ) {
    let format = store.format
    guard let index = format.sketches.firstIndex(of: sketch) else {
      preconditionFailure("the cache keeps no \(sketch)")
    }
    sketches[index].withUnsafeBufferPointer { blocks in
      let rows = ihp_rows(
        blocks: blocks.baseAddress,
        block_shift: UInt32(format.groupsPerBlock(sketch).trailingZeroBitCount), element: IHP_F32,
        offset: store.sketchOffset(sketch, layer: layer, kvHead: kvHead),
        stride: format.groupByteCount(sketch))
      withUnsafePointer(to: rows, body)
    }
  }

  /// Where the tokens of a step are written in one layer.
  func open(_ positions: Range<Int>, layer: Int) -> WrittenBlocks {
    let format = store.format
    let first = positions.lowerBound / format.blockSize
    let places = first..<(positions.upperBound + format.blockSize - 1) / format.blockSize
    let addresses: [UnsafeMutablePointer<UInt8>?] =
      if let pages = store.pages {
        pages.open(blocks[places], layer: layer)
      } else {
        places.flatMap { place in
          (0..<format.pagesPerLayer).map { head in
            // Values come after the keys of all heads.
            rows[place].map {
              UnsafeMutablePointer(mutating: $0) + store.keyOffset(layer: layer, kvHead: head)
            }
          }
        }
      }
    return WrittenBlocks(format: format, first: first, addresses: addresses)
  }
}

/// Blocks that a step writes in one layer.
struct WrittenBlocks {
  fileprivate let format: KVFormat
  fileprivate let first: Int
  /// Of each block the keys of all heads, then the values.
  fileprivate let addresses: [UnsafeMutablePointer<UInt8>?]

  /// Where a token's key or value of a head goes.
  func address(
    _ kind: CPUBlockTable.Kind, kvHead: Int, position: Int
  ) -> UnsafeMutablePointer<UInt8>? {
    let (block, inside) = position.quotientAndRemainder(dividingBy: format.blockSize)
    return start(kind, kvHead: kvHead, block: block).map { $0 + inside * format.rowByteCount }
  }

  private func start(
    _ kind: CPUBlockTable.Kind, kvHead: Int, block: Int
  ) -> UnsafeMutablePointer<UInt8>? {
    addresses[
      (block - first) * format.pagesPerLayer + (kind == .keys ? 0 : format.shape.kvHeads) + kvHead]
  }

  /// Calls `body` with the keys of a head in the block of a position, and the position's place there.
  func withKeys(
    kvHead: Int, at position: Int, _ body: (inout ihp_rows, _ place: Int) -> Void
  ) {
    let (block, inside) = position.quotientAndRemainder(dividingBy: format.blockSize)
    var address = start(.keys, kvHead: kvHead, block: block).map { UnsafePointer($0) }
    withUnsafePointer(to: &address) { address in
      var rows = ihp_rows(
        blocks: address, block_shift: UInt32(format.blockSize.trailingZeroBitCount),
        element: format.element.kernelElement, offset: 0, stride: format.rowByteCount)
      body(&rows, inside)
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
