// SPDX-License-Identifier: Apache-2.0

/// What a Go template's text is cut into.
struct GoToken {
  enum Kind: Hashable {
    case text(TemplateText)
    case open, close
    case dot
    /// `.Name`
    case field(String)
    /// `$name`, or `$`.
    case variable(String)
    /// A function, a keyword or a constant's name.
    case name(String)
    case string(String)
    case integer(Int)
    case number(Double)
    case sign(String)
    case end
  }

  let kind: Kind
  let line: Int
  /// White space before it parts two arguments: `.A .B` is not `.A.B`.
  let isSpaced: Bool
}

/// Cuts a template into tokens, without comments and with the white space trimmed that `{{-` and
/// `-}}` take.
struct GoLexer {
  let source: [Unicode.Scalar]
  var index = 0
  private(set) var line = 1
  private var lineIsCountedUpTo = 0
  private var tokens: [GoToken] = []

  static func tokens(of source: String) throws(TemplateError) -> [GoToken] {
    var lexer = GoLexer(source: Array(source.unicodeScalars))
    do throws(TemplateError) {
      try lexer.run()
    } catch {
      lexer.countLines()
      throw error.at(line: lexer.line)
    }
    return lexer.tokens
  }

  private init(source: [Unicode.Scalar]) { self.source = source }

  subscript(ahead offset: Int) -> Unicode.Scalar? {
    index + offset < source.count ? source[index + offset] : nil
  }

  func has(_ text: StaticString, at offset: Int = 0) -> Bool {
    var place = index + offset
    for scalar in "\(text)".unicodeScalars {
      guard place < source.count, source[place] == scalar else { return false }
      place += 1
    }
    return true
  }

  static func isSpace(_ scalar: Unicode.Scalar?) -> Bool {
    scalar == " " || scalar == "\n" || scalar == "\t" || scalar == "\r"
  }

  private mutating func countLines() {
    let end = min(index, source.count)
    guard end > lineIsCountedUpTo else { return }
    for place in lineIsCountedUpTo..<end where source[place] == "\n" { line += 1 }
    lineIsCountedUpTo = end
  }

  private mutating func add(_ kind: GoToken.Kind, isSpaced: Bool = false) {
    countLines()
    tokens.append(GoToken(kind: kind, line: line, isSpaced: isSpaced))
  }

  private mutating func run() throws(TemplateError) {
    var isTrimmed = false
    while index < source.count {
      let start = index
      while index < source.count, !(source[index] == "{" && self[ahead: 1] == "{") { index += 1 }
      let trimsBefore = self[ahead: 2] == "-" && Self.isSpace(self[ahead: 3])
      addText(start..<index, trimsStart: isTrimmed, trimsEnd: index < source.count && trimsBefore)
      guard index < source.count else { break }
      add(.open)
      index += trimsBefore ? 4 : 2
      isTrimmed = has("/*") ? try comment() : try action()
    }
    add(.end)
  }

  private mutating func addText(_ range: Range<Int>, trimsStart: Bool, trimsEnd: Bool) {
    var (low, high) = (range.lowerBound, range.upperBound)
    while trimsStart, low < high, Self.isSpace(source[low]) { low += 1 }
    while trimsEnd, low < high, Self.isSpace(source[high - 1]) { high -= 1 }
    guard low < high else { return }
    let text = Array(source[low..<high])
    add(.text(TemplateText(scalars: text, isData: Array(repeating: false, count: text.count))))
  }

  /// A comment leaves nothing; returns whether it trims what follows.
  private mutating func comment() throws(TemplateError) -> Bool {
    tokens.removeLast()
    index += 2
    while index < source.count, !(source[index] == "*" && self[ahead: 1] == "/") { index += 1 }
    guard index < source.count else { throw .syntax("a comment is not closed") }
    index += 2
    let trims = Self.isSpace(self[ahead: 0]) && has("-}}", at: 1)
    guard trims || has("}}") else { throw .syntax("a comment ends before its action does") }
    index += trims ? 4 : 2
    return trims
  }

  /// Tokens up to the end of an action; returns whether it trims what follows.
  private mutating func action() throws(TemplateError) -> Bool {
    while index < source.count {
      let start = index
      while Self.isSpace(self[ahead: 0]) { index += 1 }
      let isSpaced = index > start
      let trims = isSpaced && has("-}}")
      if trims || has("}}") {
        index += trims ? 3 : 2
        add(.close, isSpaced: isSpaced)
        return trims
      }
      guard index < source.count else { break }
      add(try token(), isSpaced: isSpaced)
    }
    throw .syntax("an action is not closed")
  }

  private mutating func token() throws(TemplateError) -> GoToken.Kind {
    let scalar = source[index]
    switch scalar {
    case "\"": return .string(try quoted())
    case "`": return .string(try raw())
    case "'": return .integer(try character())
    case "$":
      index += 1
      return .variable("$" + word())
    case ".":
      if let next = self[ahead: 1], ("0"..."9").contains(next) { return try number() }
      index += 1
      let name = word()
      return name.isEmpty ? .dot : .field(name)
    case "+", "-", "0"..."9": return try number()
    case ":" where self[ahead: 1] == "=":
      index += 2
      return .sign(":=")
    case "(", ")", "|", ",", "=":
      index += 1
      return .sign(String(scalar))
    default:
      let name = word()
      guard !name.isEmpty else { throw .syntax("unexpected \(String(scalar)) in an action") }
      return .name(name)
    }
  }

  /// Letters, digits and underscores.
  private mutating func word() -> String {
    var view = String.UnicodeScalarView()
    while let scalar = self[ahead: 0],
      scalar == "_" || scalar.properties.isAlphabetic || scalar.properties.numericType == .decimal
    {
      view.append(scalar)
      index += 1
    }
    return String(view)
  }
}
