// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPTensors

/// How keys and values are stored.
public enum KVType: String, Sendable, Hashable, CaseIterable {
  case f16, bf16
  /// Blocks of 32 elements in 8 bits.
  case q8

  /// The element type of the rows.
  public var element: ElementType {
    switch self {
    case .f16: .float16
    case .bf16: .bfloat16
    case .q8: .q8_0
    }
  }

  /// Throws when heads of this size do not fill blocks.
  public func check(headSize: Int) throws(ComputeError) {
    guard headSize % element.blockSize == 0 else {
      throw ComputeError(
        .unsupported,
        "heads of \(headSize) elements do not fill the blocks of \(element.blockSize) of \"\(rawValue)\"; "
          + "keep keys and values as f16 or bf16")
    }
  }
}

/// Where keys, values and sketches lie inside a page.
///
/// A page holds, layer by layer and head by head: keys `[pageSize, headSize]`, values
/// `[pageSize, headSize]`, and each sketch in groups of 8 rows: the moments of the page's chunks,
/// `[pageSize / chunk / 8]`, or its keys in 4 bits, `[pageSize / 8]`.
public struct KVLayout: Sendable, Hashable {
  /// Tokens in a page.
  ///
  /// A power of two.
  public static let pageSize = 1024

  /// Layers that keep keys and values.
  public let layerCount: Int
  /// The heads.
  public let shape: AttentionShape
  /// How keys and values are stored.
  public let element: ElementType
  /// What is kept of the keys besides; chunks divide the page size.
  public let sketches: [KeySketch]

  /// Stores the parts.
  public init(layerCount: Int, shape: AttentionShape, element: ElementType, sketches: [KeySketch]) {
    for case .moments(let chunkSize) in sketches { precondition(Self.pageSize % chunkSize == 0) }
    self.layerCount = layerCount
    self.shape = shape
    self.element = element
    self.sketches = sketches
  }

  /// Rows of a sketch that are stored together.
  public static let groupSize = 8

  /// Bytes of a group: of each row two 16-bit numbers and its elements, half a byte each of a key in 4
  /// bits, a byte each of a mean and a variance.
  public func groupByteCount(_ sketch: KeySketch) -> Int {
    switch sketch {
    case .moments: Self.groupSize * (4 + 2 * shape.headSize)
    case .fourBit: Self.groupSize * (4 + shape.headSize / 2)
    }
  }

  /// Groups of a sketch in a page.
  public func groupsPerPage(_ sketch: KeySketch) -> Int {
    switch sketch {
    case .moments(let chunkSize): Self.pageSize / chunkSize / Self.groupSize
    case .fourBit: Self.pageSize / Self.groupSize
    }
  }

  /// Bytes of one key or value of one head.
  public var rowByteCount: Int { element.byteCount(of: shape.headSize) }

  private var rowsByteCount: Int { Self.pageSize * rowByteCount }

  private func byteCount(_ sketch: KeySketch) -> Int {
    groupsPerPage(sketch) * groupByteCount(sketch)
  }

  private var headByteCount: Int {
    2 * rowsByteCount + sketches.reduce(0) { $0 + byteCount($1) }
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

  /// Offset of a head's part of a sketch; nil when it is not kept.
  public func sketchOffset(layer: Int, kvHead: Int, _ sketch: KeySketch) -> Int? {
    guard let index = sketches.firstIndex(of: sketch) else { return nil }
    let before = sketches[..<index].reduce(0) { $0 + byteCount($1) }
    return keyOffset(layer: layer, kvHead: kvHead) + 2 * rowsByteCount + before
  }

  /// Bytes that `tokenCount` tokens take, in whole pages.
  public func byteCount(forTokens tokenCount: Int) -> Int {
    (tokenCount + Self.pageSize - 1) / Self.pageSize * pageByteCount
  }
}
