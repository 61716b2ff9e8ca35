// SPDX-License-Identifier: Apache-2.0

/// A JSON value; members of objects keep their order, equal names included.
public enum JSONValue: Sendable, Hashable {
  case null
  case flag(Bool)
  case integer(Int)
  case number(Double)
  case text(String)
  case list([JSONValue])
  case object([Member])

  /// A name and a value of an object.
  public struct Member: Sendable, Hashable {
    /// The name.
    public let key: String
    /// The value.
    public let value: JSONValue

    /// Stores the two.
    public init(key: String, value: JSONValue) {
      self.key = key
      self.value = value
    }
  }

  /// Reads the bytes of a document, in time and memory that grow with its length.
  /// - Throws: `JSONError` when it is none, or nested more than 200 deep.
  public init(_ bytes: [UInt8]) throws(JSONError) {
    var reader = JSONReader(bytes: bytes)
    if bytes.starts(with: [0xef, 0xbb, 0xbf]) { reader.index = 3 }
    self = try reader.value(depth: 0)
    reader.skipSpace()
    guard reader.index == bytes.count else { throw reader.error("something follows the value") }
  }

  /// The members of an object; nil for anything else.
  public var members: [Member]? {
    if case .object(let members) = self { members } else { nil }
  }

  /// The items of a list; nil for anything else.
  public var items: [JSONValue]? {
    if case .list(let items) = self { items } else { nil }
  }

  /// A text; nil for anything else.
  public var text: String? {
    if case .text(let text) = self { text } else { nil }
  }

  /// True or false; nil for anything else.
  public var flag: Bool? {
    if case .flag(let flag) = self { flag } else { nil }
  }

  /// A whole number; nil for anything else.
  public var integer: Int? {
    if case .integer(let number) = self { number } else { nil }
  }

  /// A number; nil for anything else.
  public var number: Double? {
    switch self {
    case .integer(let number): Double(number)
    case .number(let number): number
    default: nil
    }
  }

  /// The last member of that name; nil where this is no object, or has none.
  public subscript(key: String) -> JSONValue? { members?.last { $0.key == key }?.value }
}

/// Why a document is no JSON.
public struct JSONError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Where, in bytes.
  public let offset: Int
  /// What is wrong.
  public let problem: String

  /// The text to show.
  public var description: String { "the JSON is damaged at byte \(offset): \(problem)" }
}

private struct JSONReader {
  let bytes: [UInt8]
  var index = 0

  func error(_ problem: String) -> JSONError { JSONError(offset: index, problem: problem) }

  mutating func skipSpace() {
    while index < bytes.count, bytes[index] <= 0x20,
      [0x20, 0x0a, 0x0d, 0x09].contains(bytes[index])
    {
      index += 1
    }
  }

  private mutating func take(_ text: StaticString) -> Bool {
    let count = text.utf8CodeUnitCount
    guard index + count <= bytes.count else { return false }
    let isThere = text.withUTF8Buffer { unsafe $0.elementsEqual(bytes[index..<index + count]) }
    if isThere { index += count }
    return isThere
  }

  mutating func value(depth: Int) throws(JSONError) -> JSONValue {
    guard depth < 200 else { throw error("it is nested too deeply") }
    skipSpace()
    guard index < bytes.count else { throw error("a value is missing") }
    switch bytes[index] {
    case 0x7b:
      index += 1
      var members: [JSONValue.Member] = []
      while try next(until: 0x7d, isFirst: members.isEmpty) {
        let key = try string()
        skipSpace()
        guard take(":") else { throw error("\":\" is missing") }
        members.append(.init(key: key, value: try value(depth: depth + 1)))
      }
      return .object(members)
    case 0x5b:
      index += 1
      var items: [JSONValue] = []
      while try next(until: 0x5d, isFirst: items.isEmpty) {
        items.append(try value(depth: depth + 1))
      }
      return .list(items)
    case 0x22: return .text(try string())
    default:
      if take("true") { return .flag(true) }
      if take("false") { return .flag(false) }
      if take("null") { return .null }
      return try number()
    }
  }

  private mutating func number() throws(JSONError) -> JSONValue {
    let start = index
    while index < bytes.count, "+-.eE0123456789".utf8.contains(bytes[index]) { index += 1 }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    if let integer = Int(text) { return .integer(integer) }
    // Not JSON, but what Python writes, and what configurations hold.
    if text.isEmpty {
      if take("NaN") { return .number(.nan) }
      if take("Infinity") { return .number(.infinity) }
    } else if text == "-", take("Infinity") {
      return .number(-.infinity)
    }
    guard let number = Double(text), number.isFinite else { throw error("a value is expected") }
    return .number(number)
  }

  /// Whether another item follows, of a list that ends with `end`.
  private mutating func next(until end: UInt8, isFirst: Bool) throws(JSONError) -> Bool {
    skipSpace()
    guard index < bytes.count else { throw error("it ends too early") }
    if bytes[index] == end {
      index += 1
      return false
    }
    if !isFirst {
      guard bytes[index] == 0x2c else { throw error("\",\" is missing") }
      index += 1
      skipSpace()
    }
    return true
  }

  private mutating func string() throws(JSONError) -> String {
    guard index < bytes.count, bytes[index] == 0x22 else { throw error("a text is expected") }
    index += 1
    let start = index
    while index < bytes.count, bytes[index] != 0x22, bytes[index] != 0x5c { index += 1 }
    guard index < bytes.count else { throw error("a text is not closed") }
    if bytes[index] == 0x22 {
      defer { index += 1 }
      return String(decoding: bytes[start..<index], as: UTF8.self)
    }
    var utf8 = Array(bytes[start..<index])
    while index < bytes.count, bytes[index] != 0x22 {
      guard bytes[index] == 0x5c else {
        utf8.append(bytes[index])
        index += 1
        continue
      }
      guard index + 1 < bytes.count else { break }
      let escape = bytes[index + 1]
      index += 2
      switch escape {
      case 0x6e: utf8.append(0x0a)
      case 0x74: utf8.append(0x09)
      case 0x72: utf8.append(0x0d)
      case 0x62: utf8.append(0x08)
      case 0x66: utf8.append(0x0c)
      case 0x22, 0x5c, 0x2f: utf8.append(escape)
      case 0x75:
        var code = try hex()
        if (0xd800..<0xdc00).contains(code), take("\\u") {
          let low = try hex()
          guard (0xdc00..<0xe000).contains(low) else { throw error("half a character") }
          code = 0x10000 + (code - 0xd800) << 10 + (low & 0x3ff)
        }
        utf8 += String(Unicode.Scalar(code) ?? "\u{fffd}").utf8
      default: throw error("\\ is followed by nothing known")
      }
    }
    guard index < bytes.count else { throw error("a text is not closed") }
    index += 1
    return String(decoding: utf8, as: UTF8.self)
  }

  private mutating func hex() throws(JSONError) -> UInt32 {
    guard index + 4 <= bytes.count, bytes[index] != 0x2b, bytes[index] != 0x2d,
      let code = UInt32(String(decoding: bytes[index..<index + 4], as: UTF8.self), radix: 16)
    else { throw error("\\u needs four hexadecimal digits") }
    index += 4
    return code
  }
}
