// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
public import HiPCompute
package import HiPKVStore

/// What two texts must have in common, besides their tokens, for their keys and values to be equal.
public struct PrefixKind: Sendable, Hashable {
  package let format: KVFormat
  let attention: LayerAttention
  /// Rotations that a text of its length has.
  let rotaries: [LayerRotary.Long]

  /// The kind of a sequence of some length; nil where what a token becomes depends on more than what stands before
  /// it: under H2O on what was evicted, where positions are stretched on the length of the text.
  public init?(
    _ format: KVFormat, _ attention: LayerAttention, _ architecture: DecoderArchitecture,
    length: Int
  ) {
    switch attention.policy {
    case .heavyHitters, .stretched: return nil
    case .dense, .streaming, .hierarchical: break
    }
    self.format = format
    self.attention = attention
    rotaries = Set(architecture.layers.compactMap { $0.rotary?.long })
      .filter { length > $0.beyond }.sorted { $0.beyond < $1.beyond }
  }

  /// All that decides what its tokens attend to and how they are rotated, in one line: what files go by.
  package var policyDescription: String {
    "\(attention.policy), dense \(attention.denseLength), rotations \(rotaries.map(\.beyond))"
  }
}

/// Blocks of texts that were prefilled, kept for the next text that begins alike, the most recent ones within a limit.
///
/// Belongs to the engine's thread.
public final class PrefixCache {
  private let shared: SharedBlocks
  /// The most bytes of blocks that are kept.
  public let limit: Int
  private var kinds: [PrefixKind: Kept] = [:]

  private struct Kept {
    let store: any KVStore
    var index: PrefixIndex
    /// Blocks whose keys in sliding layers are gone.
    var released: Set<BlockID> = []
  }

  /// Keeps nothing yet.
  public init(_ shared: SharedBlocks, limit: Int) {
    self.shared = shared
    self.limit = limit
  }

  /// Bytes of the blocks that are kept, those that sequences share included.
  public var byteCount: Int {
    kinds.values.reduce(0) { $0 + $1.index.count * shared.blockByteCount(in: $1.store) }
  }

  /// Lets an empty sequence begin with what is known of its text, at most `tokens.count` tokens.
  /// - Parameter unit: what is taken is a multiple of it.
  /// - Returns: tokens that it begins with, and those that the text has in common with a known one.
  public func adopt(
    _ tokens: ArraySlice<Int32>, of kind: PrefixKind, unit: Int, into cache: SequenceCache
  ) -> (reused: Int, common: Int) {
    guard var kept = kinds[kind] else { return (0, 0) }
    let size = kept.index.blockSize
    var blocks = kept.index.match(tokens)
    let window = kept.store.format.sliding?.window ?? 0
    func isUsable(_ count: Int) -> Bool {
      let needed = blocks[max(0, count - (window + size - 1) / size)..<count]
      return count * size % unit == 0 && !needed.contains(where: kept.released.contains)
    }
    while !blocks.isEmpty, !isUsable(blocks.count) { blocks.removeLast() }
    cache.adopt(blocks, tokens.prefix(blocks.count * size))
    let common = kept.index.commonLength(with: tokens)
    kept.index.touch(tokens.prefix(blocks.count * size))
    kinds[kind] = kept
    return (blocks.count * size, common)
  }

  /// Keeps the blocks of a sequence that hold the first tokens of a text.
  public func keep(_ tokens: ArraySlice<Int32>, of kind: PrefixKind, in cache: SequenceCache) {
    let store = cache.store
    var kept =
      kinds[kind] ?? Kept(store: store, index: PrefixIndex(blockSize: store.format.blockSize))
    let count = min(tokens.count, cache.length) / kept.index.blockSize
    let blocks = Array(cache.fullBlocks.prefix(count))
    let new = kept.index.insert(tokens.prefix(count * kept.index.blockSize), blocks: blocks)
    for block in new { shared.pool.retain(block) }
    kept.released.formUnion(Set(blocks.prefix(cache.releasedCount)).intersection(new))
    kinds[kind] = kept
    evict { byteCount <= limit }
  }

  /// Forgets blocks, and those behind them.
  package func forget(_ blocks: Set<BlockID>) {
    for (kind, kept) in kinds {
      for block in blocks {
        for gone in kinds[kind]?.index.remove(block) ?? [] {
          kinds[kind]?.released.remove(gone)
          if shared.pool.release(gone) { kept.store.discard(gone) }
        }
      }
    }
  }

  /// Makes room for bytes in the pool, as far as what is kept, and nobody uses, allows for it.
  public func makeRoom(_ byteCount: Int) { evict { shared.pool.freeByteCount >= byteCount } }

  /// Lets go of what was used least recently and nobody uses; false when there is none.
  package func dropLeastRecent() -> Bool {
    let before = kinds.values.reduce(0) { $0 + $1.index.count }
    var isFirst = true
    evict {
      defer { isFirst = false }
      return !isFirst && kinds.values.reduce(0) { $0 + $1.index.count } < before
    }
    return kinds.values.reduce(0) { $0 + $1.index.count } < before
  }

  /// Lets go of blocks until it is enough, those first that were used least recently.
  private func evict(until isEnough: () -> Bool) {
    for (kind, kept) in kinds.sorted(by: { $0.value.index.count > $1.value.index.count }) {
      guard !isEnough() else { return }
      // What a sequence still uses would free nothing.
      for block in kept.index.leastRecent() where !shared.pool.isShared(block) {
        guard !isEnough() else { break }
        for gone in kinds[kind]?.index.remove(block) ?? [] {
          kinds[kind]?.released.remove(gone)
          if shared.pool.release(gone) { kept.store.discard(gone) }
        }
      }
      if kinds[kind]?.index.count == 0 { kinds[kind] = nil }
    }
  }
}
