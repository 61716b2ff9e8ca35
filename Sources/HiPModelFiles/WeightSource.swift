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
}

/// Weights by name.
///
/// Nothing is converted or copied.
public protocol WeightSource: Sendable {
  /// Where the weights come from.
  var path: String { get }
  /// Every weight there is, as the file lists them; empty where any name will do.
  var names: [String] { get }
  /// Whether there is a weight of that name.
  func hasWeight(named name: String) -> Bool
  /// The weight, which must have this shape.
  func weight(named name: String, rows: Int, columns: Int) throws(FileError) -> Weight
}

extension GGUFFile: WeightSource {
  /// Path of the file.
  public var path: String { file.path }

  /// The tensors in the order of the file.
  public var names: [String] { tensors.map(\.name) }

  /// Whether the file has a tensor of that name.
  public func hasWeight(named name: String) -> Bool { tensors.contains { $0.name == name } }

  /// The tensor of that name and shape.
  public func weight(named name: String, rows: Int, columns: Int) throws(FileError) -> Weight {
    guard let tensor = tensors.first(where: { $0.name == name }) else {
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
    let wanted = rows == 1 ? [columns] : [columns, rows]
    guard tensor.dimensions == wanted || tensor.dimensions == [columns, rows] else {
      throw FileError(
        path: path,
        problem: "the tensor \"\(name)\" has the shape \(tensor.dimensions); the metadata call for "
          + "\(wanted)")
    }
    return Weight(name: name, element: element, rows: rows, columns: columns, bytes: bytes)
  }
}
