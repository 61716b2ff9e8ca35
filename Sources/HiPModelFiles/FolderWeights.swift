// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import HiPJSON
public import HiPTensors

/// The weights of a Hugging Face folder, in one safetensors file or several.
///
/// Nothing is converted but 8-bit floating point, which becomes bfloat16 when it is asked for.
public struct FolderWeights: WeightSource {
  /// The folder.
  public let path: String
  /// The weights in the order of their names.
  public let names: [String]
  /// Bytes of all of them in their files.
  public let byteCount: Int
  private let tensors: [String: SafetensorsFile.Tensor]

  init(folder: String) throws(FileError) {
    path = folder
    var tensors: [String: SafetensorsFile.Tensor] = [:]
    var byteCount = 0
    for (name, listed) in try Self.files(folder).sorted(by: { $0.key < $1.key }) {
      let file = try Self.open(name, folder, isListed: !listed.isEmpty)
      let held = Set(file.tensors.map(\.name))
      if let absent = listed.first(where: { !held.contains($0) }) {
        throw FileError(
          path: file.file.path,
          problem:
            "lacks the tensor \"\(absent)\", which model.safetensors.index.json says is there")
      }
      for tensor in file.tensors {
        guard tensors.updateValue(tensor, forKey: Self.plainName(tensor.name)) == nil else {
          throw FileError(
            path: file.file.path,
            problem: "the tensor \"\(tensor.name)\" stands in another file, too")
        }
        byteCount += tensor.bytes.range.count
      }
    }
    self.tensors = tensors
    self.byteCount = byteCount
    // Scales go with what they scale.
    names = tensors.keys.filter { name in
      Self.scaled(name).flatMap { tensors[$0]?.type }.map { $0 != "F8_E4M3" } ?? true
    }.sorted()
  }

  /// The weight that a scale belongs to; nil for other tensors.
  private static func scaled(_ name: String) -> String? {
    for ending in ["_scale_inv", "_scale"] where name.hasSuffix(".weight" + ending) {
      return String(name.dropLast(ending.count))
    }
    if name.hasSuffix(".input_scale") { return name.dropLast("input_scale".count) + "weight" }
    return nil
  }

  /// Names of text models within larger ones, and of models without their output, as they are elsewhere.
  private static func plainName(_ name: String) -> String {
    for (beginning, plain) in [
      ("model.language_model.", "model."), ("language_model.model.", "model."),
      ("language_model.", ""),
      ("layers.", "model.layers."), ("embed_tokens.", "model.embed_tokens."),
      ("norm.", "model.norm."),
    ] where name.hasPrefix(beginning) {
      return plain + name.dropFirst(beginning.count)
    }
    return name
  }

  private static func open(
    _ name: String, _ folder: String, isListed: Bool
  ) throws(FileError) -> SafetensorsFile {
    do {
      return try SafetensorsFile(path: HuggingFaceFolder.join(folder, name))
    } catch  where error.code == .missing {
      throw FileError(
        .missing, path: folder,
        problem: isListed
          ? "lacks \(name), which model.safetensors.index.json names; the download is incomplete"
          : "has no \(name). Weights in other forms, such as pytorch_model.bin, are not read: convert them to "
            + "safetensors, or take a GGUF file")
    }
  }

  /// The files with weights, and the tensors that an index says are in them.
  private static func files(_ folder: String) throws(FileError) -> [String: [String]] {
    guard let index = try HuggingFaceFolder.json(folder, "model.safetensors.index.json") else {
      return ["model.safetensors": []]
    }
    let path = HuggingFaceFolder.join(folder, "model.safetensors.index.json")
    guard let members = index["weight_map"]?.members, !members.isEmpty else {
      throw FileError(path: path, problem: "has no \"weight_map\"")
    }
    var files: [String: [String]] = [:]
    for member in members {
      guard let name = member.value.text, !name.contains("/"), name.hasSuffix(".safetensors") else {
        throw FileError(
          path: path,
          problem: "\"\(member.key)\" is not said to lie in a safetensors file of the folder")
      }
      files[name, default: []].append(member.key)
    }
    return files
  }

  /// Whether there is a weight of that name.
  public func hasWeight(named name: String) -> Bool { tensors[name] != nil }

  /// The tensor of that name as it lies in its file; nil where there is none.
  public func tensor(named name: String) -> SafetensorsFile.Tensor? { tensors[name] }

  /// The weight, which must have this shape.
  public func weight(named name: String, rows: Int, columns: Int) throws(FileError) -> Weight {
    try weight(named: name, rows: rows, columns: columns, part: 0..<rows)
  }

  /// Some rows of the weight.
  public func weight(
    named name: String, rows: Int, columns: Int, part: Range<Int>
  ) throws(FileError) -> Weight {
    guard let tensor = tensors[name] else {
      throw FileError(
        path: path,
        problem:
          "the tensor \"\(name)\" is missing; the folder is incomplete or of another architecture than "
          + "it says")
    }
    let wanted = rows == 1 ? [columns] : [rows, columns]
    guard tensor.shape.last == columns, tensor.shape.dropLast().reduce(1, *) == rows else {
      throw FileError(
        path: tensor.bytes.file.path,
        problem:
          "the tensor \"\(tensor.name)\" has the shape \(tensor.shape); the configuration calls for "
          + "\(wanted)")
    }
    if tensor.type == "F8_E4M3" { return try widened(tensor, name, (rows, columns), part) }
    guard let element = tensor.element else {
      throw FileError(
        .unsupported, path: tensor.bytes.file.path,
        problem:
          "the tensor \"\(tensor.name)\" is stored as \(tensor.type); supported are F32, F16, BF16 and "
          + "F8_E4M3. Use a GGUF file of the model")
    }
    return Weight(name: name, element: element, rows: rows, columns: columns, bytes: tensor.bytes)
      .rows(part)
  }

  /// 8-bit floating point times its scales, in bfloat16.
  private func widened(
    _ tensor: SafetensorsFile.Tensor, _ name: String, _ size: (rows: Int, columns: Int),
    _ part: Range<Int>
  ) throws(FileError) -> Weight {
    let (rows, columns) = size
    // Of the whole, of each row, or of blocks of 128 by 128.
    let scale = tensors[name + "_scale_inv"] ?? tensors[name + "_scale"]
    var scales: [Float] = [1]
    var blockRows = rows
    var blockColumns = columns
    if let scale {
      let values = scale.element.flatMap { element in
        Weight(
          name: scale.name, element: element, rows: 1, columns: scale.shape.reduce(1, *),
          bytes: scale.bytes
        ).floats
      }
      guard let values, let shape = Self.blocks(scale.shape, rows: rows, columns: columns) else {
        throw FileError(
          .unsupported, path: scale.bytes.file.path,
          problem:
            "the scales \"\(scale.name)\" of shape \(scale.shape) in \(scale.type) are not supported"
        )
      }
      scales = values
      (blockRows, blockColumns) = shape
    }
    let perRow = (columns + blockColumns - 1) / blockColumns
    let (source, start) = (tensor.bytes.file, tensor.bytes.range.lowerBound)
    let (factors, blockHeight, blockWidth) = (scales, blockRows, blockColumns)
    let byteCount = 2 * part.count * columns
    let memory = unsafe try MappedFile(anonymous: path, byteCount: byteCount) { bytes in
      // Each row writes its own bytes.
      nonisolated(unsafe) let bytes = unsafe bytes
      DispatchQueue.concurrentPerform(iterations: part.count) { index in
        let row = part.lowerBound + index
        for column in 0..<columns {
          let own = factors[row / blockHeight * perRow + column / blockWidth]
          let value = Float(e4m3: unsafe source.bytes[start + row * columns + column]) * own
          unsafe bytes.storeBytes(
            of: value.bfloat16Bits.littleEndian, toByteOffset: 2 * (index * columns + column),
            as: UInt16.self)
        }
      }
    }
    return Weight(
      name: name, element: .bfloat16, rows: part.count, columns: columns,
      bytes: MappedRange(file: memory, range: 0..<byteCount))
  }

  /// Rows and columns that share a scale; nil where the shape is none that is known.
  private static func blocks(_ shape: [Int], rows: Int, columns: Int) -> (Int, Int)? {
    let size = 128
    switch shape {
    case [], [1], [1, 1]: return (rows, columns)
    case [rows], [rows, 1]: return (1, columns)
    case [(rows + size - 1) / size, (columns + size - 1) / size]: return (size, size)
    default: return nil
    }
  }
}

extension Float {
  /// The number that 8 bits stand for: 4 of exponent, 3 of mantissa, no infinity.
  init(e4m3 bits: UInt8) {
    let magnitude = bits & 0x7f
    let value: Float
    if magnitude == 0x7f {
      value = .nan
    } else if magnitude < 8 {
      value = Float(magnitude) * 0x1p-9
    } else {
      value = Float(bitPattern: (UInt32(magnitude >> 3) + 120) << 23 | UInt32(magnitude & 7) << 20)
    }
    self = bits & 0x80 == 0 ? value : -value
  }

  /// The bits of the nearest number in bfloat16, of even ones the even.
  var bfloat16Bits: UInt16 {
    UInt16(truncatingIfNeeded: (bitPattern &+ 0x7fff &+ (bitPattern >> 16 & 1)) >> 16)
  }
}
