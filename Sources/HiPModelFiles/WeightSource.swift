// SPDX-License-Identifier: Apache-2.0

public import HiPTensors

/// A weight matrix of a model file, where it lies.
public struct Weight: Sendable {
  /// Its name in the file.
  public let name: String
  /// How its elements are stored.
  public let element: ElementType
  /// Outputs of a matrix; 1 for a vector.
  public let rows: Int
  /// Inputs of a matrix; elements of a vector.
  public let columns: Int
  /// Where it lies.
  public let bytes: MappedRange

  /// Stores the parts.
  public init(
    name: String, element: ElementType, rows: Int, columns: Int, bytes: MappedRange
  ) {
    self.name = name
    self.element = element
    self.rows = rows
    self.columns = columns
    self.bytes = bytes
  }

  /// Some of its rows, which lie where they lay.
  public func rows(_ range: Range<Int>) -> Weight {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows)
    let rowSize = element.byteCount(of: columns)
    let start = bytes.range.lowerBound
    return Weight(
      name: name, element: element, rows: range.count, columns: columns,
      bytes: MappedRange(
        file: bytes.file,
        range: start + range.lowerBound * rowSize..<start + range.upperBound * rowSize))
  }

  /// Its elements in float32; nil where they are quantised.
  public var floats: [Float]? {
    let count = rows * columns
    let (file, start) = (bytes.file, bytes.range.lowerBound)
    func bits(_ index: Int) -> UInt16 {
      UInt16(
        littleEndian: unsafe file.bytes.loadUnaligned(
          fromByteOffset: start + 2 * index, as: UInt16.self))
    }
    switch element {
    case .float32:
      return (0..<count).map { index in
        Float(
          bitPattern: UInt32(
            littleEndian: unsafe file.bytes.loadUnaligned(
              fromByteOffset: start + 4 * index, as: UInt32.self)))
      }
    case .float16: return (0..<count).map { Float(halfBits: bits($0)) }
    case .bfloat16: return (0..<count).map { Float(bitPattern: UInt32(bits($0)) << 16) }
    case .float64:
      return (0..<count).map { index in
        Float(
          Double(
            bitPattern: UInt64(
              littleEndian: unsafe file.bytes.loadUnaligned(
                fromByteOffset: start + 8 * index, as: UInt64.self))))
      }
    default: return nil
    }
  }
}

extension Float {
  /// The number that a half-precision pattern stands for.
  package init(halfBits bits: UInt16) {
    let sign = UInt32(bits & 0x8000) << 16
    let magnitude = UInt32(bits & 0x7fff) << 13
    if magnitude >= 0x0f80_0000 {
      self.init(bitPattern: sign | 0x7000_0000 | magnitude)
    } else {
      let scaled = Float(bitPattern: magnitude) * 0x1p112
      self.init(bitPattern: sign | scaled.bitPattern)
    }
  }
}

/// Weights by name.
///
/// Nothing is converted or copied that can be used as it lies.
public protocol WeightSource: Sendable {
  /// Where the weights come from.
  var path: String { get }
  /// Every weight there is, as the file lists them; empty where any name will do.
  var names: [String] { get }
  /// Whether there is a weight of that name.
  func hasWeight(named name: String) -> Bool
  /// The weight, which must have this shape.
  func weight(named name: String, rows: Int, columns: Int) throws(FileError) -> Weight
  /// Some rows of the weight, which must have this shape: what has to be put together is put together for them alone.
  func weight(
    named name: String, rows: Int, columns: Int, part: Range<Int>
  ) throws(FileError) -> Weight
}

extension WeightSource {
  /// Some rows of the weight.
  public func weight(
    named name: String, rows: Int, columns: Int, part: Range<Int>
  ) throws(FileError) -> Weight {
    try weight(named: name, rows: rows, columns: columns).rows(part)
  }

  /// The elements of a vector in float32.
  public func floats(named name: String, count: Int) throws(FileError) -> [Float] {
    let weight = try weight(named: name, rows: 1, columns: count)
    guard let floats = weight.floats else {
      throw FileError(
        .unsupported, path: path,
        problem:
          "the tensor \"\(name)\" is stored as \(weight.element.rawValue); norms, biases and factors are "
          + "expected as F32, F16 or BF16")
    }
    return floats
  }
}

extension GGUFFile: WeightSource {
  /// Path of the file.
  public var path: String { file.path }

  /// The tensors in the order of the file.
  public var names: [String] { tensors.map(\.name) }

  /// Whether the file has a tensor of that name.
  public func hasWeight(named name: String) -> Bool { tensor(named: name) != nil }

  /// The tensor of that name and shape.
  public func weight(named name: String, rows: Int, columns: Int) throws(FileError) -> Weight {
    guard let tensor = tensor(named: name) else {
      throw FileError(
        path: path,
        problem: "the tensor \"\(name)\" is missing; the file is incomplete or of another "
          + "architecture than it says")
    }
    guard let element = tensor.type.element, let bytes = tensor.bytes else {
      let known = ElementType.allCases.map(\.rawValue).joined(separator: ", ")
      throw FileError(
        path: path,
        problem: "the tensor \"\(name)\" is stored as \(tensor.type.name); supported are \(known). "
          + "Use a file quantised to one of these")
    }
    // Matrices of several experts lie one behind the other.
    let wanted = rows == 1 ? [columns] : [columns, rows]
    guard tensor.dimensions[0] == columns, tensor.dimensions.dropFirst().reduce(1, *) == rows else {
      throw FileError(
        path: path,
        problem: "the tensor \"\(name)\" has the shape \(tensor.dimensions); the metadata call for "
          + "\(wanted)")
    }
    return Weight(name: name, element: element, rows: rows, columns: columns, bytes: bytes)
  }
}
