// SPDX-License-Identifier: Apache-2.0

extension TemplateValue {
  /// Reads JSON; members of objects keep their order, and texts are data.
  /// - Throws: `TemplateError` when it is none, or nested more than 200 deep.
  public init(json: String) throws(TemplateError) {
    var reader = OrderedJSONReader(bytes: Array(json.utf8))
    self = try reader.value(depth: 0)
    reader.skipSpace()
    guard reader.isAtEnd else { throw .syntax("something follows the JSON value") }
  }
}

private struct OrderedJSONReader {
  let bytes: [UInt8]
  var index = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  var isAtEnd: Bool { index >= bytes.count }

  mutating func skipSpace() {
    while index < bytes.count, [0x20, 0x0a, 0x0d, 0x09].contains(bytes[index]) { index += 1 }
  }

  private func error(_ what: String) -> TemplateError {
    .syntax("the JSON is damaged at byte \(index): \(what)")
  }

  private mutating func take(_ text: String) -> Bool {
    guard bytes[index...].starts(with: text.utf8) else { return false }
    index += text.utf8.count
    return true
  }

  mutating func value(depth: Int) throws(TemplateError) -> TemplateValue {
    guard depth < 200 else { throw error("it is nested too deeply") }
    skipSpace()
    guard index < bytes.count else { throw error("a value is missing") }
    switch bytes[index] {
    case 0x7b:
      index += 1
      var members: [(key: String, value: TemplateValue)] = []
      var places: [String: Int] = [:]
      try list(until: 0x7d) { reader throws(TemplateError) in
        let key = try reader.string()
        reader.skipSpace()
        guard reader.take(":") else { throw reader.error("\":\" is missing") }
        let value = try reader.value(depth: depth + 1)
        // Of equal names the last one counts, where the first stood.
        if let place = places[key] {
          members[place].value = value
        } else {
          places[key] = members.count
          members.append((key, value))
        }
      }
      return .object(members)
    case 0x5b:
      index += 1
      var items: [TemplateValue] = []
      try list(until: 0x5d) { reader throws(TemplateError) in
        items.append(try reader.value(depth: depth + 1))
      }
      return .list(items)
    case 0x22: return .text(TemplateText(try string(), isData: true))
    default:
      if take("true") { return .flag(true) }
      if take("false") { return .flag(false) }
      if take("null") { return .null }
      let start = index
      while index < bytes.count, "+-.eE0123456789".utf8.contains(bytes[index]) { index += 1 }
      let text = String(decoding: bytes[start..<index], as: UTF8.self)
      if let integer = Int(text) { return .integer(integer) }
      guard let number = Double(text), number.isFinite else { throw error("a value is expected") }
      return .number(number)
    }
  }

  private mutating func list(
    until end: UInt8, _ item: (inout OrderedJSONReader) throws(TemplateError) -> Void
  ) throws(TemplateError) {
    skipSpace()
    if index < bytes.count, bytes[index] == end {
      index += 1
      return
    }
    while true {
      skipSpace()
      try item(&self)
      skipSpace()
      guard index < bytes.count else { throw error("it ends too early") }
      if bytes[index] == end {
        index += 1
        return
      }
      guard bytes[index] == 0x2c else { throw error("\",\" is missing") }
      index += 1
    }
  }

  private mutating func string() throws(TemplateError) -> String {
    guard index < bytes.count, bytes[index] == 0x22 else { throw error("a text is expected") }
    index += 1
    var utf8: [UInt8] = []
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

  private mutating func hex() throws(TemplateError) -> UInt32 {
    guard index + 4 <= bytes.count,
      let code = UInt32(String(decoding: bytes[index..<index + 4], as: UTF8.self), radix: 16)
    else { throw error("\\u needs four hexadecimal digits") }
    index += 4
    return code
  }
}
