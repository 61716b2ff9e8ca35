// SPDX-License-Identifier: Apache-2.0

extension JSONValue {
  /// The document in one line, without blanks.
  public var json: String { String(decoding: utf8, as: UTF8.self) }

  /// The bytes of the document in one line, without blanks.
  ///
  /// Numbers that JSON has no form for are written as null.
  public var utf8: [UInt8] {
    var bytes: [UInt8] = []
    write(to: &bytes)
    return bytes
  }

  private func write(to bytes: inout [UInt8]) {
    switch self {
    case .null: bytes += "null".utf8
    case .flag(let flag): bytes += (flag ? "true" : "false").utf8
    case .integer(let number): bytes += "\(number)".utf8
    case .number(let number): bytes += (number.isFinite ? "\(number)" : "null").utf8
    case .text(let text): Self.write(text, to: &bytes)
    case .list(let items):
      bytes.append(0x5b)
      for (index, item) in items.enumerated() {
        if index > 0 { bytes.append(0x2c) }
        item.write(to: &bytes)
      }
      bytes.append(0x5d)
    case .object(let members):
      bytes.append(0x7b)
      for (index, member) in members.enumerated() {
        if index > 0 { bytes.append(0x2c) }
        Self.write(member.key, to: &bytes)
        bytes.append(0x3a)
        member.value.write(to: &bytes)
      }
      bytes.append(0x7d)
    }
  }

  private static func write(_ text: String, to bytes: inout [UInt8]) {
    let digits = Array("0123456789abcdef".utf8)
    bytes.append(0x22)
    for byte in text.utf8 {
      switch byte {
      case 0x22, 0x5c: bytes += [0x5c, byte]
      case 0x0a: bytes += [0x5c, 0x6e]
      case 0x0d: bytes += [0x5c, 0x72]
      case 0x09: bytes += [0x5c, 0x74]
      case 0..<0x20:
        bytes += [0x5c, 0x75, 0x30, 0x30, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      default: bytes.append(byte)
      }
    }
    bytes.append(0x22)
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral
{
  /// A text.
  public init(stringLiteral value: String) { self = .text(value) }
  /// A whole number.
  public init(integerLiteral value: Int) { self = .integer(value) }
  /// A number.
  public init(floatLiteral value: Double) { self = .number(value) }
  /// True or false.
  public init(booleanLiteral value: Bool) { self = .flag(value) }
  /// A list.
  public init(arrayLiteral elements: JSONValue...) { self = .list(elements) }
  /// An object with members in this order.
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(elements.map { Member(key: $0.0, value: $0.1) })
  }
}

extension JSONValue {
  /// The same object with more members at its end; those that are nil are left out.
  public func adding(_ more: KeyValuePairs<String, JSONValue?>) -> JSONValue {
    .object(
      (members ?? [])
        + more.compactMap { key, value in value.map { Member(key: key, value: $0) } })
  }
}
