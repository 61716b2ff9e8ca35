// SPDX-License-Identifier: Apache-2.0

/// Texts, characters and numbers as Go writes them.
extension GoLexer {
  mutating func raw() throws(TemplateError) -> String {
    index += 1
    var view = String.UnicodeScalarView()
    while let scalar = self[ahead: 0] {
      index += 1
      if scalar == "`" { return String(view) }
      if scalar != "\r" { view.append(scalar) }
    }
    throw .syntax("a raw text is not closed")
  }

  mutating func quoted() throws(TemplateError) -> String {
    index += 1
    var bytes: [UInt8] = []
    while let scalar = self[ahead: 0], scalar != "\n" {
      index += 1
      if scalar == "\"" { return String(decoding: bytes, as: UTF8.self) }
      if scalar == "\\" {
        bytes += try escape().bytes
      } else {
        bytes += Array(String(scalar).utf8)
      }
    }
    throw .syntax("a quoted text is not closed")
  }

  mutating func character() throws(TemplateError) -> Int {
    index += 1
    guard let scalar = self[ahead: 0], scalar != "'", scalar != "\n" else {
      throw .syntax("a character is missing between quotes")
    }
    index += 1
    let value = scalar == "\\" ? try escape().value : Int(scalar.value)
    guard self[ahead: 0] == "'" else { throw .syntax("a character is not closed") }
    index += 1
    return value
  }

  private static let letters: [Unicode.Scalar: UInt8] = [
    "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, "\"": 34,
  ]

  /// What stands behind a backslash: a number, and what it is in a text.
  private mutating func escape() throws(TemplateError) -> (value: Int, bytes: [UInt8]) {
    guard let letter = self[ahead: 0] else { throw .syntax("an escape is not complete") }
    if let byte = Self.letters[letter] {
      index += 1
      return (Int(byte), [byte])
    }
    let (count, radix) =
      switch letter {
      case "x": (2, 16)
      case "u": (4, 16)
      case "U": (8, 16)
      case "0"..."7": (3, 8)
      default: throw .syntax("\\\(String(letter)) is no escape of Go")
      }
    if radix == 16 { index += 1 }
    var value = 0
    for _ in 0..<count {
      guard let digit = self[ahead: 0].flatMap({ Int(String($0), radix: radix) }) else {
        throw .syntax("an escape is not complete")
      }
      value = value * radix + digit
      index += 1
    }
    // Two hexadecimal or three octal digits are a byte, more are a character.
    if count < 4 {
      guard let byte = UInt8(exactly: value) else { throw .syntax("an escape is no byte") }
      return (value, [byte])
    }
    guard let scalar = Unicode.Scalar(UInt32(value)) else {
      throw .syntax("an escape is no character")
    }
    return (value, Array(String(scalar).utf8))
  }

  mutating func number() throws(TemplateError) -> GoToken.Kind {
    var text = ""
    while let scalar = self[ahead: 0], scalar.isASCII {
      let isHexadecimal = text.contains("x") || text.contains("X")
      let isExponent = text.last.map { isHexadecimal ? "pP".contains($0) : "eE".contains($0) }
      switch scalar {
      case "+", "-":
        guard isExponent ?? true else { return try Self.number(text) }
      case "0"..."9", "a"..."z", "A"..."Z", ".", "_": break
      default: return try Self.number(text)
      }
      // Numbers this long are none, and each further character would look at all those before it.
      guard text.utf8.count < 400 else { throw .syntax("a number is too long") }
      text.unicodeScalars.append(scalar)
      index += 1
    }
    return try Self.number(text)
  }

  private static func number(_ written: String) throws(TemplateError) -> GoToken.Kind {
    let text = String(written.filter { $0 != "_" })
    let isNegative = text.hasPrefix("-")
    var digits = Substring(text)
    if isNegative || text.hasPrefix("+") { digits = digits.dropFirst() }
    guard let first = digits.first, first.isNumber || first == "." else {
      throw .syntax("\(written) is no number")
    }
    var radix = 10
    if digits.first == "0", digits.count > 1 {
      let prefixes: [Character: Int] = ["x": 16, "X": 16, "b": 2, "B": 2, "o": 8, "O": 8]
      if let found = prefixes[digits[digits.index(after: digits.startIndex)]] {
        radix = found
        digits = digits.dropFirst(2)
      } else if digits.allSatisfy(\.isNumber) {
        radix = 8
      }
    }
    if digits.first != "+", digits.first != "-",
      let integer = Int((isNegative ? "-" : "") + digits, radix: radix)
    {
      return .integer(integer)
    }
    let isFraction = text.contains { ".eEpP".contains($0) }
    guard isFraction, let number = Double(text), number.isFinite else {
      throw .syntax("\(written) is no number, or too large")
    }
    return .number(number)
  }
}
