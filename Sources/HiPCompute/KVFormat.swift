// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPTensors

/// How keys and values are stored.
public enum KVType: String, Sendable, Hashable, CaseIterable {
  case f16, bf16
  /// Twice the memory of the others: for comparing with what rounds nothing.
  case f32
  /// Quantised blocks of 32 elements in 8 bits.
  case q8

  /// The element type of the rows.
  public var element: ElementType {
    switch self {
    case .f16: .float16
    case .bf16: .bfloat16
    case .f32: .float32
    case .q8: .q8_0
    }
  }

  /// Throws when heads of this size do not fill quantised blocks.
  public func check(headSize: Int) throws(ComputeError) {
    guard headSize % element.blockSize == 0 else {
      throw ComputeError(
        .unsupported,
        "heads of \(headSize) elements do not fill the blocks of \(element.blockSize) of \"\(rawValue)\"; "
          + "keep keys and values as f16 or bf16")
    }
  }
}

/// What a block of the KV cache keeps; where it lies is the backend's.
public struct KVFormat: Sendable, Hashable {
  /// Layers that keep keys and values.
  public let layerCount: Int
  /// The heads.
  public let shape: AttentionShape
  /// How keys and values are stored.
  public let element: ElementType
  /// What is kept of the keys besides, for stages to scan.
  public let sketches: [KeySketch]
  /// Of each layer how many last keys a query may reach, nil for all of them; empty where that is so in every layer.
  public let windows: [Int?]
  /// Whether the memory of keys behind those windows is given back.
  public let releasesSliding: Bool
  /// Tokens in a block, a power of two.
  public let blockSize = 64

  /// Stores the parts.
  public init(
    layerCount: Int, shape: AttentionShape, element: ElementType, sketches: [KeySketch],
    windows: [Int?] = [], releasesSliding: Bool = true
  ) {
    self.releasesSliding = releasesSliding
    precondition(windows.isEmpty || windows.count == layerCount)
    self.windows = windows
    self.layerCount = layerCount
    self.shape = shape
    self.element = element
    self.sketches = sketches
  }

  /// Rows of a sketch that are scored together, and so lie together.
  public static let groupSize = 8

  /// The row of a mean, both counted from the first of a sequence: a block's group of first halves of chunks of 8 keys
  /// comes before the one of second halves, so that vectors add them up.
  public static func row(ofMean index: Int) -> Int {
    let (pair, half) = index.quotientAndRemainder(dividingBy: 2)
    let (block, place) = pair.quotientAndRemainder(dividingBy: groupSize)
    return (2 * block + half) * groupSize + place
  }

  /// Bytes of a group: of each row its elements, half a byte each of a key in 4 bits after two 16-bit numbers, a
  /// byte each of a mean after one.
  public func groupByteCount(_ sketch: KeySketch) -> Int {
    switch sketch {
    case .means: Self.groupSize * (2 + shape.headSize)
    case .fourBit: Self.groupSize * (4 + shape.headSize / 2)
    }
  }

  /// Groups of a sketch in a block.
  public func groupsPerBlock(_ sketch: KeySketch) -> Int {
    switch sketch {
    case .means(let keyCount): blockSize / keyCount / Self.groupSize
    case .fourBit: blockSize / Self.groupSize
    }
  }

  /// Bytes of one key or value of one head.
  public var rowByteCount: Int { element.byteCount(of: shape.headSize) }

  /// Bytes of the keys and values of a block in one layer.
  public var rowsByteCount: Int { 2 * shape.kvHeads * blockSize * rowByteCount }

  /// Bytes of a page: the keys or the values of a head in a block, the least that moves between tiers.
  public var pageByteCount: Int { blockSize * rowByteCount }

  /// Pages of a block in all layers.
  public var pagesPerBlock: Int { layerCount * pagesPerLayer }

  /// Pages of a block in a layer: the keys of its heads, then the values.
  public var pagesPerLayer: Int { 2 * shape.kvHeads }

  /// Bytes of the sketches of a block, in all layers that keep them.
  public var sketchByteCount: Int {
    (0..<layerCount).count { keepsSketches($0) } * shape.kvHeads * sketchBytesPerHead
  }

  /// Bytes of the sketches of a block in one layer and head.
  public var sketchBytesPerHead: Int { sketches.reduce(0) { $0 + byteCount($1) } }

  /// Bytes of a sketch of a block in one layer and head.
  public func byteCount(_ sketch: KeySketch) -> Int {
    blockSize / sketch.keyCount * groupByteCount(sketch) / Self.groupSize
  }

  /// Bytes of a block, sketches included, in all layers.
  public var blockByteCount: Int {
    layerCount * (rowsByteCount + shape.kvHeads * sketches.reduce(0) { $0 + byteCount($1) })
  }

  /// Layers that keep the keys of a window only, and the longest of those windows; nil where there are none.
  public var sliding: (layers: [Int], window: Int)? {
    guard releasesSliding else { return nil }
    let layers = windows.indices.filter { windows[$0] != nil }
    return windows.compactMap { $0 }.max().map { (layers, $0) }
  }

  /// Whether a layer's keys have sketches: nothing is selected where queries reach back over a window.
  public func keepsSketches(_ layer: Int) -> Bool { windows.isEmpty || windows[layer] == nil }

  /// Bytes of a block that lies behind the windows of sliding layers, which have let go of it.
  public var keptBlockByteCount: Int {
    blockByteCount / layerCount * (layerCount - (sliding?.layers.count ?? 0))
  }

  /// Bytes that `tokenCount` tokens take, in whole blocks.
  public func byteCount(forTokens tokenCount: Int) -> Int {
    let blocks = (tokenCount + blockSize - 1) / blockSize
    let inside = min(blocks, sliding.map { ($0.window + blockSize - 1) / blockSize } ?? blocks)
    return inside * blockByteCount + (blocks - inside) * keptBlockByteCount
  }
}
