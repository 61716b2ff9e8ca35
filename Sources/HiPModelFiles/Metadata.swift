// SPDX-License-Identifier: Apache-2.0

public import HiPTensors

/// A value of a model file's metadata.
public enum MetadataValue: Sendable, Hashable {
  case integer(Int64)
  /// Only for values that `integer` cannot hold.
  case unsigned(UInt64)
  case number(Double)
  case flag(Bool)
  case text(String)
  case integers([Int64])
  case numbers([Double])
  case flags([Bool])
  case texts([String])
  /// What no value is read from, by its kind: "an object", "a mixed list".
  case other(String)

  var kind: String {
    switch self {
    case .integer, .unsigned: "a whole number"
    case .number: "a number"
    case .flag: "true or false"
    case .text: "a text"
    case .integers: "a list of whole numbers"
    case .numbers: "a list of numbers"
    case .flags: "a list of true and false"
    case .texts: "a list of texts"
    case .other(let kind): kind
    }
  }
}

/// The metadata of a model file, with errors that name file and key.
public struct Metadata: Sendable {
  /// The file it comes from.
  public let path: String
  /// All values by key.
  public let values: [String: MetadataValue]
  /// Keys that are said to have no value.
  public let nulls: Set<String>

  /// Stores the parts.
  public init(path: String, values: [String: MetadataValue], nulls: Set<String> = []) {
    self.path = path
    self.values = values
    self.nulls = nulls
  }

  /// The error of a key that is needed and absent.
  public func missing(_ key: String) -> FileError {
    FileError(path: path, problem: "the metadata lack \"\(key)\"; is this a complete model file?")
  }

  private func wrong(_ key: String, _ value: MetadataValue, _ wanted: String) -> FileError {
    FileError(path: path, problem: "\"\(key)\" is \(value.kind), but must be \(wanted)")
  }

  /// A whole number in `range`; `fallback` when the key is absent.
  public func integer(
    _ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil
  ) throws(FileError) -> Int {
    guard let value = values[key] else {
      if let fallback { return fallback }
      throw missing(key)
    }
    guard case .integer(let number) = value else { throw wrong(key, value, "a whole number") }
    guard let result = Int(exactly: number), range.contains(result) else {
      throw FileError(
        path: path,
        problem:
          "\"\(key)\" is \(number); allowed are \(range.lowerBound) to \(range.upperBound)")
    }
    return result
  }

  /// A number; `fallback` when the key is absent.
  public func number(_ key: String, default fallback: Double? = nil) throws(FileError) -> Double {
    guard let value = values[key] else {
      if let fallback { return fallback }
      throw missing(key)
    }
    switch value {
    case .number(let number) where number.isFinite: return number
    case .integer(let number): return Double(number)
    default: throw wrong(key, value, "a finite number")
    }
  }

  /// A text; nil when the key is absent.
  public func text(_ key: String) throws(FileError) -> String? {
    guard let value = values[key] else { return nil }
    guard case .text(let text) = value else { throw wrong(key, value, "a text") }
    return text
  }

  /// True or false; `fallback` when the key is absent.
  public func flag(_ key: String, default fallback: Bool) throws(FileError) -> Bool {
    guard let value = values[key] else { return fallback }
    guard case .flag(let flag) = value else { throw wrong(key, value, "true or false") }
    return flag
  }

  /// A list of texts; nil when the key is absent.
  public func texts(_ key: String) throws(FileError) -> [String]? {
    guard let value = values[key] else { return nil }
    guard case .texts(let texts) = value else { throw wrong(key, value, "a list of texts") }
    return texts
  }

  /// A list of numbers; nil when the key is absent.
  public func numbers(_ key: String) throws(FileError) -> [Double]? {
    switch values[key] {
    case nil: return nil
    case .numbers(let numbers): return numbers
    case .integers(let numbers): return numbers.map(Double.init)
    case .some(let value): throw wrong(key, value, "a list of numbers")
    }
  }

  /// A list of whole numbers; nil when the key is absent.
  public func integers(_ key: String) throws(FileError) -> [Int64]? {
    guard let value = values[key] else { return nil }
    guard case .integers(let numbers) = value else {
      throw wrong(key, value, "a list of whole numbers")
    }
    return numbers
  }
}
