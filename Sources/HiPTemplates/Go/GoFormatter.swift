// SPDX-License-Identifier: Apache-2.0

/// What `printf` writes: the verbs s v d q t f e g x X c o b and %, with flags, widths and
/// precisions.
struct GoFormatter {
  private let format: TemplateText
  private let arguments: [TemplateValue]
  private var writer: GoWriter
  private var index = 0

  private struct Flags {
    var isLeft = false
    var hasPlus = false
    var hasZeros = false
    var width: Int?
    var precision: Int?
  }

  /// Writes behind what a writer holds.
  init(_ format: TemplateText, _ arguments: [TemplateValue], _ writer: GoWriter) {
    self.format = format
    self.arguments = arguments
    self.writer = writer
  }

  mutating func run() throws(TemplateError) -> GoWriter {
    var used = 0
    while index < format.count {
      let scalar = format.scalars[index]
      let isData = format.isData[index]
      index += 1
      guard scalar == "%" else {
        try writer.write(scalar, isData: isData)
        continue
      }
      let flags = try flags()
      guard index < format.count else {
        try writer.write("%!(NOVERB)")
        break
      }
      let verb = Character(format.scalars[index])
      index += 1
      if verb == "%" {
        try writer.write("%")
      } else if used < arguments.count {
        try write(arguments[used], verb, flags)
        used += 1
      } else {
        try writer.write("%!\(verb)(MISSING)")
      }
    }
    if used < arguments.count {
      try writer.write("%!(EXTRA ")
      for place in used..<arguments.count {
        if place > used { try writer.write(", ") }
        try writer.write(arguments[place].goType + "=")
        try writer.print(arguments[place])
      }
      try writer.write(")")
    }
    return writer
  }

  private mutating func number() throws(TemplateError) -> Int? {
    var number: Int?
    while index < format.count, let digit = Int(String(format.scalars[index])), digit >= 0 {
      number = (number ?? 0) * 10 + digit
      guard (number ?? 0) <= 100_000 else {
        throw TemplateError(.limit, "a width of printf is too large")
      }
      index += 1
    }
    return number
  }

  private mutating func flags() throws(TemplateError) -> Flags {
    var flags = Flags()
    loop: while index < format.count {
      switch format.scalars[index] {
      case "-": flags.isLeft = true
      case "+": flags.hasPlus = true
      case "0": flags.hasZeros = true
      case " ", "#": break
      default: break loop
      }
      index += 1
    }
    flags.width = try number()
    if index < format.count, format.scalars[index] == "." {
      index += 1
      flags.precision = try number() ?? 0
    }
    return flags
  }

  private mutating func write(
    _ value: TemplateValue, _ verb: Character, _ flags: Flags
  ) throws(TemplateError) {
    guard let text = try formatted(value, verb, flags) else {
      try writer.write("%!\(verb)(\(value.goType)=")
      try writer.print(value)
      return try writer.write(")")
    }
    let padding = max(0, (flags.width ?? 0) - text.count)
    let isNumber = value.asNumber != nil
    if flags.hasZeros, !flags.isLeft, isNumber, padding > 0 {
      // Zeros stand behind the sign.
      let signs = text.scalars.first.map { $0 == "-" || $0 == "+" } == true ? 1 : 0
      try writer.write(text[0..<signs])
      try writer.write(String(repeating: "0", count: padding))
      return try writer.write(text[signs..<text.count])
    }
    if !flags.isLeft { try writer.write(String(repeating: " ", count: padding)) }
    try writer.write(text)
    if flags.isLeft { try writer.write(String(repeating: " ", count: padding)) }
  }

  /// nil where a verb is not for such a value.
  private func formatted(
    _ value: TemplateValue, _ verb: Character, _ flags: Flags
  ) throws(TemplateError) -> TemplateText? {
    switch (verb, value) {
    case ("v", .integer(let integer)), ("d", .integer(let integer)):
      return TemplateText((flags.hasPlus && integer >= 0 ? "+" : "") + "\(integer)")
    case ("d", .undefined), ("d", .null): return TemplateText("0")
    case ("t", .flag), ("v", _): return try printed(value)
    case ("t", .undefined), ("t", .null): return TemplateText("false")
    case ("s", .flag), ("s", .integer), ("s", .number): return nil
    case ("s", _):
      let text = try printed(value)
      return text[0..<min(flags.precision ?? text.count, text.count)]
    case ("q", .text), ("q", .undefined), ("q", .null): return try quoted(printed(value))
    case ("x", .text(let text)), ("X", .text(let text)):
      return try bytes(text, Array(Self.cased("0123456789abcdef", verb).unicodeScalars))
    case ("x", .integer(let integer)), ("X", .integer(let integer)):
      return TemplateText(Self.cased(GoNumber.hex(integer), verb))
    case ("o", .integer(let integer)): return TemplateText(String(integer, radix: 8))
    case ("b", .integer(let integer)): return TemplateText(String(integer, radix: 2))
    case ("c", .integer(let integer)):
      let scalar = UInt32(exactly: integer).flatMap { Unicode.Scalar($0) } ?? "\u{fffd}"
      return TemplateText(String(scalar))
    case ("f", .number(let number)), ("F", .number(let number)), ("e", .number(let number)):
      let text = GoNumber.formatted(number, verb: verb, precision: flags.precision ?? 6)
      return TemplateText((flags.hasPlus && number >= 0 ? "+" : "") + text)
    case ("g", .number(let number)): return TemplateText(GoNumber.general(number))
    default: return nil
    }
  }

  private func bytes(
    _ text: TemplateText, _ digits: [Unicode.Scalar]
  ) throws(TemplateError) -> TemplateText {
    var writer = GoWriter(most: writer.most)
    for (scalar, isData) in zip(text.scalars, text.isData) {
      for byte in String(scalar).utf8 {
        try writer.write(digits[Int(byte / 16)], isData: isData)
        try writer.write(digits[Int(byte % 16)], isData: isData)
      }
    }
    return writer.text
  }

  private static func cased(_ text: String, _ verb: Character) -> String {
    verb == "X" ? text.uppercased() : text
  }

  private func printed(_ value: TemplateValue) throws(TemplateError) -> TemplateText {
    var writer = GoWriter(most: writer.most)
    try writer.print(value)
    return writer.text
  }

  private static let escapes: [Unicode.Scalar: String] = [
    "\"": "\\\"", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\u{7}": "\\a",
    "\u{8}": "\\b", "\u{c}": "\\f", "\u{b}": "\\v",
  ]

  /// As Go's source would have it.
  private func quoted(_ text: TemplateText) throws(TemplateError) -> TemplateText {
    var writer = GoWriter(most: writer.most)
    try writer.write("\"")
    try writer.write(text) { scalar in
      if let escape = Self.escapes[scalar] { return escape }
      switch scalar.properties.generalCategory {
      case .control where scalar.value < 0x80: return "\\x" + GoNumber.hex(scalar.value, 2)
      case .control, .format, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator:
        return scalar.value > 0xffff
          ? "\\U" + GoNumber.hex(scalar.value, 8) : "\\u" + GoNumber.hex(scalar.value, 4)
      case .spaceSeparator where scalar != " ": return "\\u" + GoNumber.hex(scalar.value, 4)
      default: return nil
      }
    }
    try writer.write("\"")
    return writer.text
  }
}
