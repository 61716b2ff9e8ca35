// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute

/// Pages of one KV head that a thread has pinned, and where they lie; nothing to do where all lie in memory for good.
final class HeldPages {
  private var keys: UnsafeMutablePointer<UnsafePointer<UInt8>?>?
  private var values: UnsafeMutablePointer<UnsafePointer<UInt8>?>?
  private var capacity = 0
  /// Blocks whose addresses are set.
  private var places: [Int32] = []
  private var numbers: [Int] = []
  private var pages: CPUPages?

  deinit {
    keys?.deallocate()
    values?.deallocate()
  }

  /// Room for the addresses of so many blocks.
  func addresses(
    _ kind: CPUBlockTable.Kind, count: Int
  ) -> UnsafePointer<UnsafePointer<UInt8>?>? {
    if count > capacity {
      release()
      keys?.deallocate()
      values?.deallocate()
      capacity = count + count / 4 + 64
      keys = .allocate(capacity: capacity)
      values = .allocate(capacity: capacity)
      keys?.initialize(repeating: nil, count: capacity)
      values?.initialize(repeating: nil, count: capacity)
    }
    return UnsafePointer(kind == .keys ? keys : values)
  }

  /// Lets go of what is held and holds the blocks of some keys of a head instead.
  func hold(
    _ indices: UnsafePointer<Int32>, _ count: Int, _ kinds: [CPUBlockTable.Kind],
    of table: CPUBlockTable, layer: Int, kvHead: Int
  ) {
    guard let pages = table.store.pages else { return }
    begin(table)
    guard let keys else { return }
    let shift = Int32(table.store.format.blockSize.trailingZeroBitCount)
    // An address marks what has been seen; `hold` puts the right one in its place.
    let mark = UnsafePointer<UInt8>(bitPattern: 1)
    for index in UnsafeBufferPointer(start: indices, count: count) {
      let place = index >> shift
      if keys[Int(place)] == nil {
        keys[Int(place)] = mark
        places.append(place)
      }
    }
    finish(kinds, pages, table, layer: layer, kvHead: kvHead)
  }

  /// Lets go of what is held and holds the blocks of chunks of keys instead.
  func hold(
    chunks: ArraySlice<Int32>, of chunkSize: Int, _ table: CPUBlockTable, layer: Int, kvHead: Int
  ) {
    guard let pages = table.store.pages else { return }
    begin(table)
    guard let keys else { return }
    let shift = Int32(table.store.format.blockSize.trailingZeroBitCount)
    let mark = UnsafePointer<UInt8>(bitPattern: 1)
    let last = Int32(table.blocks.count) - 1
    for chunk in chunks {
      for place in chunk >> shift...min(last, (chunk + Int32(chunkSize) - 1) >> shift)
      where keys[Int(place)] == nil {
        keys[Int(place)] = mark
        places.append(place)
      }
    }
    finish([.keys], pages, table, layer: layer, kvHead: kvHead)
  }

  private func begin(_ table: CPUBlockTable) {
    release()
    _ = addresses(.keys, count: table.blocks.count)
  }

  private func finish(
    _ kinds: [CPUBlockTable.Kind], _ pages: CPUPages, _ table: CPUBlockTable, layer: Int,
    kvHead: Int
  ) {
    guard let keys, let values else { return }
    self.pages = pages
    numbers = pages.hold(
      places, of: table.blocks,
      kinds.map {
        (pages.page($0, layer: layer, kvHead: kvHead), $0 == .keys ? keys : values)
      })
  }

  /// Lets go of what is held.
  func release() {
    guard !places.isEmpty else { return }
    for place in places {
      keys?[Int(place)] = nil
      values?[Int(place)] = nil
    }
    places.removeAll(keepingCapacity: true)
    pages?.release(numbers)
    numbers = []
    pages = nil
  }
}
