// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPTensors

/// Where keys, values and sketches lie inside a page.
///
/// A page holds, layer by layer and head by head: keys `[pageSize, headSize]`, values
/// `[pageSize, headSize]`, and for each sketch chunk size the moments of the page's chunks,
/// `[pageSize / chunk, 2, headSize]` (means, then variances).
public struct KVLayout: Sendable, Hashable {
  /// Tokens in a page.
  ///
  /// A power of two.
  public static let pageSize = 256

  /// Layers that keep keys and values.
  public let layerCount: Int
  /// The heads.
  public let shape: AttentionShape
  /// How keys and values are stored.
  public let element: ElementType
  /// Chunk sizes whose moments are kept; each divides the page size.
  public let sketchChunkSizes: [Int]

  /// Stores the parts.
  public init(
    layerCount: Int, shape: AttentionShape, element: ElementType, sketchChunkSizes: [Int]
  ) {
    precondition(sketchChunkSizes.allSatisfy { Self.pageSize % $0 == 0 })
    self.layerCount = layerCount
    self.shape = shape
    self.element = element
    self.sketchChunkSizes = sketchChunkSizes
  }

  /// Bytes of one key or value of one head.
  public var rowByteCount: Int { element.byteCount(of: shape.headSize) }

  private var rowsByteCount: Int { Self.pageSize * rowByteCount }

  private func sketchByteCount(_ chunkSize: Int) -> Int {
    Self.pageSize / chunkSize * 2 * rowByteCount
  }

  private var headByteCount: Int {
    2 * rowsByteCount + sketchChunkSizes.reduce(0) { $0 + sketchByteCount($1) }
  }

  /// Bytes of a page.
  public var pageByteCount: Int { layerCount * shape.kvHeads * headByteCount }

  /// Offset of a head's keys in a page.
  public func keyOffset(layer: Int, kvHead: Int) -> Int {
    (layer * shape.kvHeads + kvHead) * headByteCount
  }

  /// Offset of a head's values in a page.
  public func valueOffset(layer: Int, kvHead: Int) -> Int {
    keyOffset(layer: layer, kvHead: kvHead) + rowsByteCount
  }

  /// Offset of a head's moments of chunks of `chunkSize` keys; nil when they are not kept.
  public func sketchOffset(layer: Int, kvHead: Int, chunkSize: Int) -> Int? {
    guard let index = sketchChunkSizes.firstIndex(of: chunkSize) else { return nil }
    let before = sketchChunkSizes[..<index].reduce(0) { $0 + sketchByteCount($1) }
    return keyOffset(layer: layer, kvHead: kvHead) + 2 * rowsByteCount + before
  }

  /// Bytes that `tokenCount` tokens take, in whole pages.
  public func byteCount(forTokens tokenCount: Int) -> Int {
    (tokenCount + Self.pageSize - 1) / Self.pageSize * pageByteCount
  }
}
