// SPDX-License-Identifier: Apache-2.0

package import HiPCompute
package import HiPKVStore

/// The blocks of all sequences of a device, whatever their formats: one budget in bytes.
///
/// Above a lower tier the pool counts what stays in memory, the sketches; pages have what they leave.
/// Belongs to the engine's thread, as everything below does.
public final class SharedBlocks {
  var pool: BlockPool
  /// Bytes that keys, values and sketches may take in memory.
  public let capacity: Int
  private let isTiered: Bool
  /// Stores whose pages share what is left.
  private var paged: [any PagedStore] = []

  /// No blocks yet, and room for so many bytes of them.
  ///
  /// Above a lower tier an eighth of them is for pages, whatever sketches need.
  public init(capacity: Int, isTiered: Bool = false) {
    self.capacity = capacity
    self.isTiered = isTiered
    pool = BlockPool(capacity: isTiered ? capacity - capacity / 8 : capacity)
  }

  /// Bytes that blocks take for good.
  public var usedByteCount: Int { pool.usedByteCount }

  /// Bytes that blocks may still take.
  package var freeByteCount: Int { pool.freeByteCount }

  /// Bytes that blocks and pages take in memory.
  public var residentByteCount: Int {
    pool.usedByteCount + paged.reduce(0) { $0 + $1.traffic.residentByteCount }
  }

  /// Bytes that a block of a store takes for good.
  func blockByteCount(in store: any KVStore) -> Int {
    store.paged == nil ? store.format.keptBlockByteCount : max(1, store.format.sketchByteCount)
  }

  /// A store for a format, on a device.
  package func makeStore(_ format: KVFormat, on backend: any AttentionBackend) -> any KVStore {
    let store = backend.makeStore(format, isTiered ? .tiered : .memory)
    if let pages = store.paged {
      paged.append(pages)
      balance()
    }
    return store
  }

  /// Lets pages have what is left, each store alike.
  func balance() {
    for store in paged {
      store.resize(toByteCount: (capacity - pool.usedByteCount) / paged.count)
    }
  }

  /// Ends what `SequenceCache.retain` began.
  package func release(_ block: BlockID, in store: any KVStore) {
    if pool.release(block) { store.discard(block) }
  }
}
