// SPDX-License-Identifier: Apache-2.0

/// What a template's text is cut into.
enum TemplateToken: Hashable {
  case text(String)
  case openOutput, closeOutput, openBlock, closeBlock
  case name(String)
  case string(String)
  case integer(Int)
  case number(Double)
  case sign(String)
  case end
}

/// Cuts a template into tokens, with blank lines of blocks taken away as `trim_blocks` and `lstrip_blocks` do.
struct TemplateLexer {
  private let source: [Unicode.Scalar]
  private var index = 0
  private(set) var tokens: [TemplateToken] = []

  static func tokens(of source: String) throws(TemplateError) -> [TemplateToken] {
    // One line's end at the end of a template does not count.
    var lines = source.replacing("\r\n", with: "\n").replacing("\r", with: "\n")
    if lines.unicodeScalars.last == "\n" { lines.unicodeScalars.removeLast() }
    var lexer = TemplateLexer(source: Array(lines.unicodeScalars))
    try lexer.run()
    return lexer.tokens + [.end]
  }

  private init(source: [Unicode.Scalar]) { self.source = source }

  private func has(_ text: String, at place: Int) -> Bool {
    let wanted = Array(text.unicodeScalars)
    return place + wanted.count <= source.count
      && source[place..<place + wanted.count].elementsEqual(wanted)
  }

  private func text(_ range: Range<Int>) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: source[range])
    return String(view)
  }

  private mutating func run() throws(TemplateError) {
    var start = 0
    var trimsStart = false
    while index < source.count {
      guard source[index] == "{", index + 1 < source.count,
        ["{", "%", "#"].contains(source[index + 1])
      else {
        index += 1
        continue
      }
      let kind = source[index + 1]
      let mark = index + 2 < source.count ? source[index + 2] : " "
      append(start..<index, trimsStart: trimsStart, before: kind, mark)
      index += 2
      if mark == "-" || mark == "+" { index += 1 }
      var (isTight, isLoose) = (false, false)
      switch kind {
      case "#":
        while index < source.count, !has("#}", at: index) { index += 1 }
        guard index < source.count else { throw .syntax("a comment {# is not closed") }
        isTight = source[index - 1] == "-"
        isLoose = source[index - 1] == "+"
        index += 2
      case "{":
        tokens.append(.openOutput)
        isTight = try code(until: "}}")
        tokens.append(.closeOutput)
      default:
        tokens.append(.openBlock)
        isTight = try code(until: "%}")
        tokens.append(.closeBlock)
        if case .name("raw")? = tokens.dropLast().last, tokens.dropLast(2).last == .openBlock {
          try rawBlock(&isTight)
        }
      }
      if kind != "{", !isTight, !isLoose, index < source.count, source[index] == "\n" { index += 1 }
      start = index
      trimsStart = isTight
    }
    append(start..<source.count, trimsStart: trimsStart, before: nil, " ")
  }

  private mutating func rawBlock(_ isTight: inout Bool) throws(TemplateError) {
    tokens.removeLast(3)
    let start = index
    while index < source.count {
      if has("{%", at: index) {
        var place = index + 2
        while place < source.count, source[place] == "-" || source[place] == " " { place += 1 }
        if has("endraw", at: place) {
          append(start..<index, trimsStart: isTight, before: nil, " ")
          while index < source.count, !has("%}", at: index) { index += 1 }
          isTight = source[max(0, index - 1)] == "-"
          index = min(source.count, index + 2)
          return
        }
      }
      index += 1
    }
    throw .syntax("{% raw %} is not closed")
  }

  private mutating func append(
    _ range: Range<Int>, trimsStart: Bool, before kind: Unicode.Scalar?, _ mark: Unicode.Scalar
  ) {
    var (low, high) = (range.lowerBound, range.upperBound)
    while trimsStart, low < high, TemplateText.isSpace(source[low]) { low += 1 }
    if kind != nil, mark == "-" {
      while low < high, TemplateText.isSpace(source[high - 1]) { high -= 1 }
    } else if kind == "%" || kind == "#", mark != "+" {
      // Blanks between a line's start and a block.
      var place = high
      while place > low, source[place - 1] == " " || source[place - 1] == "\t" { place -= 1 }
      if place == 0 || source[place - 1] == "\n" { high = place }
    }
    if low < high { tokens.append(.text(text(low..<high))) }
  }

  /// The tokens up to a closing mark; whether it takes the white space behind it.
  private mutating func code(until close: String) throws(TemplateError) -> Bool {
    var depth = 0
    while index < source.count {
      let scalar = source[index]
      if depth == 0 {
        if has("-" + close, at: index) {
          index += 3
          return true
        }
        if has("+" + close, at: index) {
          index += 3
          return false
        }
        if has(close, at: index) {
          index += 2
          return false
        }
      }
      if TemplateText.isSpace(scalar) {
        index += 1
      } else if scalar == "'" || scalar == "\"" {
        try string(scalar)
      } else if ("0"..."9").contains(scalar) {
        try number()
      } else if scalar == "_" || scalar.properties.isAlphabetic {
        let start = index
        while index < source.count,
          source[index] == "_" || source[index].properties.isAlphabetic
            || ("0"..."9").contains(source[index])
        { index += 1 }
        tokens.append(.name(text(start..<index)))
      } else {
        let signs = [
          "==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "|", "(", ")", "[", "]",
          "{", "}", ",", ":", ".", "<", ">", "=",
        ]
        guard let sign = signs.first(where: { has($0, at: index) }) else {
          throw .syntax("the character \(scalar) means nothing in a template's code")
        }
        if ["(", "[", "{"].contains(sign) { depth += 1 }
        if [")", "]", "}"].contains(sign) { depth -= 1 }
        tokens.append(.sign(sign))
        index += sign.count
      }
    }
    throw .syntax("\(close) is missing")
  }

  private mutating func number() throws(TemplateError) {
    let start = index
    func isDigit(_ place: Int) -> Bool {
      place < source.count && (("0"..."9").contains(source[place]) || source[place] == "_")
    }
    while isDigit(index) { index += 1 }
    var isWhole = true
    if index < source.count, source[index] == ".", isDigit(index + 1) {
      isWhole = false
      index += 1
      while isDigit(index) { index += 1 }
    }
    if index < source.count, source[index] == "e" || source[index] == "E",
      isDigit(index + 1)
        || (index + 1 < source.count && "+-".unicodeScalars.contains(source[index + 1]))
    {
      isWhole = false
      index += 2
      while isDigit(index) { index += 1 }
    }
    let written = text(start..<index).replacing("_", with: "")
    if isWhole, let value = Int(written) {
      tokens.append(.integer(value))
    } else if let value = Double(written) {
      tokens.append(.number(value))
    } else {
      throw .syntax("\(written) is no number")
    }
  }

  private mutating func string(_ quote: Unicode.Scalar) throws(TemplateError) {
    var value = String.UnicodeScalarView()
    index += 1
    while index < source.count, source[index] != quote {
      var scalar = source[index]
      if scalar == "\\", index + 1 < source.count {
        index += 1
        scalar = source[index]
        switch scalar {
        case "n": value.append("\n")
        case "t": value.append("\t")
        case "r": value.append("\r")
        case "b": value.append("\u{8}")
        case "f": value.append("\u{c}")
        case "x", "u", "U":
          let length = scalar == "x" ? 2 : scalar == "u" ? 4 : 8
          let end = min(source.count, index + 1 + length)
          guard let code = UInt32(text(index + 1..<end), radix: 16),
            let decoded = Unicode.Scalar(code)
          else { throw .syntax("\\\(scalar) in a text is not followed by a character's number") }
          value.append(decoded)
          index += length
        case "\\", "'", "\"": value.append(scalar)
        case "\n": break
        default:
          value.append("\\")
          value.append(scalar)
        }
      } else {
        value.append(scalar)
      }
      index += 1
    }
    guard index < source.count else { throw .syntax("a text is not closed") }
    index += 1
    tokens.append(.string(String(value)))
  }
}
