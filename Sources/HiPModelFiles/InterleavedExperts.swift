// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
public import HiPTensors

/// The weights of a gpt-oss folder with its experts in rows: the folder holds gate and up in turn, and in its 16-bit form
/// all matrices transposed.
///
/// What becomes of them is put together in memory when it is asked for.
public struct InterleavedExperts: WeightSource {
  private let folder: FolderWeights

  /// Wraps the weights of a folder.
  public init(_ folder: FolderWeights) { self.folder = folder }

  /// Where the weights come from.
  public var path: String { folder.path }

  private static let experts = ".mlp.experts."
  private static let parts = ["gate_proj", "up_proj", "down_proj"]

  /// Every weight, the experts' as they are brought.
  public var names: [String] {
    var layers: Set<String> = []
    var names: [String] = []
    for name in folder.names {
      if let range = name.firstRange(of: Self.experts) {
        layers.insert(String(name[..<range.lowerBound]))
      } else {
        names.append(name)
      }
    }
    for layer in layers.sorted() {
      for part in Self.parts {
        names += [".weight", ".bias"].map { layer + Self.experts + part + $0 }
      }
    }
    return names
  }

  /// Whether there is a weight of that name.
  public func hasWeight(named name: String) -> Bool {
    guard let source = Self.source(name) else { return folder.hasWeight(named: name) }
    return source.isBias
      ? folder.hasWeight(named: source.tensor + "_bias")
      : folder.hasWeight(named: source.tensor)
        || folder.hasWeight(named: source.tensor + "_blocks")
  }

  /// The tensor that an expert's weight comes out of, which rows of it, and whether it is a bias.
  private static func source(
    _ name: String
  ) -> (tensor: String, first: Int, step: Int, isBias: Bool)? {
    guard let range = name.firstRange(of: experts) else { return nil }
    let layer = name[..<range.upperBound]
    let isBias = name.hasSuffix(".bias")
    switch name[range.upperBound...].split(separator: ".").first {
    case "gate_proj": return (layer + "gate_up_proj", 0, 2, isBias)
    case "up_proj": return (layer + "gate_up_proj", 1, 2, isBias)
    case "down_proj": return (layer + "down_proj", 0, 1, isBias)
    default: return nil
    }
  }

  /// The weight, which must have this shape: the rows of all experts.
  public func weight(named name: String, rows: Int, columns: Int) throws(FileError) -> Weight {
    try weight(named: name, rows: rows, columns: columns, part: 0..<rows)
  }

  /// Some rows of the weight.
  public func weight(
    named name: String, rows: Int, columns: Int, part: Range<Int>
  ) throws(FileError) -> Weight {
    guard let source = Self.source(name) else {
      return try folder.weight(named: name, rows: rows, columns: columns, part: part)
    }
    if source.isBias {
      let all = try folder.weight(
        named: source.tensor + "_bias", rows: rows, columns: columns * source.step)
      return try all.elements(name, rows: part, columns: columns) { row, column in
        row * all.columns + column * source.step + source.first
      }
    }
    if let blocks = folder.tensor(named: source.tensor + "_blocks") {
      return try microscaled(name, blocks, source, (rows, columns), part)
    }
    // [experts, columns, rows of an expert], gate and up in turn.
    guard let tensor = folder.tensor(named: source.tensor), tensor.shape.count == 3,
      tensor.shape[0] > 0, rows % tensor.shape[0] == 0
    else { return try folder.weight(named: source.tensor, rows: rows, columns: columns) }
    let perExpert = rows / tensor.shape[0]
    let width = perExpert * source.step
    let all = try folder.weight(
      named: source.tensor, rows: tensor.shape[0] * columns, columns: width)
    return try all.elements(name, rows: part, columns: columns) { row, column in
      let (expert, inside) = row.quotientAndRemainder(dividingBy: perExpert)
      return (expert * columns + column) * width + inside * source.step + source.first
    }
  }

  /// Blocks of pairs and their exponents side by side, as blocks behind their exponents: pairs of neighbours become pairs
  /// of elements 16 apart.
  private func microscaled(
    _ name: String, _ blocks: SafetensorsFile.Tensor,
    _ source: (tensor: String, first: Int, step: Int, isBias: Bool),
    _ size: (rows: Int, columns: Int),
    _ part: Range<Int>
  ) throws(FileError) -> Weight {
    let (rows, columns) = size
    let perRow = columns / 32
    guard let scales = folder.tensor(named: source.tensor + "_scales"), columns % 32 == 0,
      blocks.type == "U8", scales.type == "U8",
      blocks.bytes.range.count == rows * source.step * perRow * 16,
      scales.bytes.range.count == rows * source.step * perRow
    else {
      throw FileError(
        path: blocks.bytes.file.path,
        problem:
          "the tensor \"\(blocks.name)\" of shape \(blocks.shape) does not go with its scales, or with the "
          + "configuration")
    }
    let byteCount = part.count * perRow * 17
    let (pairs, exponents) = (blocks.bytes, scales.bytes)
    let memory = unsafe try MappedFile(anonymous: path, byteCount: byteCount) { bytes in
      // Each row writes its own bytes.
      nonisolated(unsafe) let bytes = unsafe bytes
      DispatchQueue.concurrentPerform(iterations: part.count) { row in
        // Rows of an expert lie together, so that every second one is gate or up.
        let from = (part.lowerBound + row) * source.step + source.first
        for block in 0..<perRow {
          let place = from * perRow + block
          let to = (row * perRow + block) * 17
          unsafe bytes[to] = unsafe exponents.file.bytes[exponents.range.lowerBound + place]
          let start = pairs.range.lowerBound + place * 16
          for index in 0..<8 {
            let (low, high) = unsafe (
              pairs.file.bytes[start + index], pairs.file.bytes[start + 8 + index]
            )
            unsafe bytes[to + 1 + 2 * index] = low & 15 | high << 4
            unsafe bytes[to + 2 + 2 * index] = low >> 4 | high & 0xf0
          }
        }
      }
    }
    return Weight(
      name: name, element: .mxfp4, rows: part.count, columns: columns,
      bytes: MappedRange(file: memory, range: 0..<byteCount))
  }
}

extension Weight {
  /// A matrix of some of the elements, by their places.
  fileprivate func elements(
    _ name: String, rows: Range<Int>, columns: Int,
    _ place: @Sendable (_ row: Int, _ column: Int) -> Int
  ) throws(FileError) -> Weight {
    let size = element.blockByteCount
    let (source, start) = (bytes.file, bytes.range.lowerBound)
    let byteCount = rows.count * columns * size
    let memory = unsafe try MappedFile(anonymous: source.path, byteCount: byteCount) { target in
      // Each row writes its own bytes.
      nonisolated(unsafe) let target = unsafe target
      DispatchQueue.concurrentPerform(iterations: rows.count) { row in
        for column in 0..<columns {
          let from = start + place(rows.lowerBound + row, column) * size
          for byte in 0..<size {
            unsafe target[(row * columns + column) * size + byte] = unsafe source.bytes[from + byte]
          }
        }
      }
    }
    return Weight(
      name: name, element: element, rows: rows.count, columns: columns,
      bytes: MappedRange(file: memory, range: 0..<byteCount))
  }
}
