// SPDX-License-Identifier: Apache-2.0

/// A value of a template: what JSON has, in the order that it was written, and what evaluation adds.
public indirect enum TemplateValue: Sendable {
  /// A variable that nobody set: it prints as nothing, is false, and has no members.
  case undefined(String)
  case null
  case flag(Bool)
  case integer(Int)
  case number(Double)
  case text(TemplateText)
  case list([TemplateValue])
  case object([(key: String, value: TemplateValue)])
  /// What `namespace()` makes: the one thing that a template may change, by its place in the evaluator.
  case namespace(Int)
  /// A macro, by its place in the evaluator.
  case macro(Int)
  case function(Function)

  /// Functions that every template can call.
  public enum Function: String, Sendable, CaseIterable {
    case raiseException = "raise_exception"
    case strftimeNow = "strftime_now"
    case range, namespace, dict
  }

  var isTrue: Bool {
    switch self {
    case .undefined, .null: false
    case .flag(let flag): flag
    case .integer(let integer): integer != 0
    case .number(let number): number != 0
    case .text(let text): !text.isEmpty
    case .list(let list): !list.isEmpty
    case .object(let members): !members.isEmpty
    case .namespace, .macro, .function: true
    }
  }

  var kind: String {
    switch self {
    case .undefined: "undefined"
    case .null: "none"
    case .flag: "a truth value"
    case .integer: "an integer"
    case .number: "a number"
    case .text: "a text"
    case .list: "a list"
    case .object: "an object"
    case .namespace: "a namespace"
    case .macro, .function: "a function"
    }
  }

  /// The number that it counts as, if any.
  var asNumber: Double? {
    switch self {
    case .flag(let flag): flag ? 1 : 0
    case .integer(let integer): Double(integer)
    case .number(let number): number
    default: nil
    }
  }

  var asInteger: Int? {
    switch self {
    case .flag(let flag): flag ? 1 : 0
    case .integer(let integer): integer
    default: nil
    }
  }

  func equals(_ other: TemplateValue) -> Bool {
    if let a = asNumber, let b = other.asNumber { return a == b }
    switch (self, other) {
    case (.undefined, .undefined), (.null, .null): return true
    case (.text(let a), .text(let b)): return a.scalars == b.scalars
    case (.list(let a), .list(let b)):
      return a.count == b.count && zip(a, b).allSatisfy { $0.equals($1) }
    case (.object(let a), .object(let b)):
      return a.count == b.count
        && a.allSatisfy { pair in b.first { $0.key == pair.key }?.value.equals(pair.value) ?? false
        }
    case (.namespace(let a), .namespace(let b)): return a == b
    default: return false
    }
  }

  /// Values within a value, itself included, and a sixteenth of their characters; beyond `limit` for a value
  /// that is nested more than `depth` deep, which the recursions over values would not survive.
  func weight(atMost limit: Int, depth: Int = 100) -> Int {
    guard depth > 0 else { return limit + 1 }
    var weight = 1
    func add(_ value: TemplateValue) -> Bool {
      weight += value.weight(atMost: limit - weight, depth: depth - 1)
      return weight <= limit
    }
    switch self {
    case .text(let text): weight += text.count / 4
    case .list(let list): _ = list.allSatisfy(add)
    case .object(let members): _ = members.allSatisfy { add($0.value) }
    default: break
    }
    return weight
  }

  /// Characters of all texts within a value.
  var characterCount: Int {
    switch self {
    case .text(let text): text.count
    case .list(let list): list.reduce(0) { $0 + $1.characterCount }
    case .object(let members): members.reduce(0) { $0 + $1.value.characterCount }
    default: 0
    }
  }

  /// As Python prints it: `str`, or with `quoted` `repr`.
  func printed(quoted: Bool = false) -> TemplateText {
    switch self {
    case .undefined: return TemplateText("")
    case .null: return TemplateText("None")
    case .flag(let flag): return TemplateText(flag ? "True" : "False")
    case .integer(let integer): return TemplateText("\(integer)")
    case .number(let number): return TemplateText(PythonText.number(number))
    case .text(let text): return quoted ? PythonText.quoted(text) : text
    case .list(let list):
      var result = TemplateText("[")
      for (index, item) in list.enumerated() {
        if index > 0 { result += TemplateText(", ") }
        result += item.printed(quoted: true)
      }
      return result + "]"
    case .object(let members):
      var result = TemplateText("{")
      for (index, member) in members.enumerated() {
        if index > 0 { result += TemplateText(", ") }
        result += PythonText.quoted(TemplateText(member.key, isData: true))
        result += TemplateText(": ")
        result += member.value.printed(quoted: true)
      }
      return result + "}"
    case .namespace: return TemplateText("<Namespace>")
    case .macro, .function: return TemplateText("<function>")
    }
  }
}

extension TemplateText {
  static func + (left: TemplateText, right: String) -> TemplateText {
    var result = left
    result += TemplateText(right)
    return result
  }
}

/// Texts as Python writes them.
enum PythonText {
  static func number(_ number: Double) -> String {
    if number.isNaN { return "nan" }
    if number.isInfinite { return number < 0 ? "-inf" : "inf" }
    if number == number.rounded(), abs(number) < 1e16 { return "\(Int(number)).0" }
    var text = "\(number)"
    // Swift writes 1e-05 as 1e-05 and 1e+20 as 1e+20; Python has two digits of exponent at least.
    if let mark = text.firstIndex(of: "e") {
      var exponent = text[text.index(after: mark)...]
      let sign = exponent.hasPrefix("-") ? "-" : "+"
      if exponent.hasPrefix("-") || exponent.hasPrefix("+") { exponent = exponent.dropFirst() }
      var mantissa = String(text[..<mark])
      if mantissa.hasSuffix(".0") { mantissa.removeLast(2) }
      text = mantissa + "e" + sign + (exponent.count < 2 ? "0" : "") + exponent
    }
    return text
  }

  static func quoted(_ text: TemplateText) -> TemplateText {
    let hasSingle = text.scalars.contains("'")
    let quote = hasSingle && !text.scalars.contains("\"") ? "\"" : "'"
    var result = TemplateText(quote)
    for (scalar, isData) in zip(text.scalars, text.isData) {
      let written: String
      switch scalar {
      case "\\": written = "\\\\"
      case "\n": written = "\\n"
      case "\r": written = "\\r"
      case "\t": written = "\\t"
      case "'" where quote == "'": written = "\\'"
      default:
        if scalar.value < 0x20 || scalar.value == 0x7f {
          let hex = String(scalar.value, radix: 16)
          written = "\\x" + (hex.count < 2 ? "0" : "") + hex
        } else {
          written = String(scalar)
        }
      }
      result += TemplateText(written, isData: isData)
    }
    return result + quote
  }

  /// As `json.dumps` writes it, in one line or indented.
  static func json(
    _ value: TemplateValue, indent: Int? = nil, sorted: Bool = false, ascii: Bool = false,
    separators: (String, String)? = nil, level: Int = 0
  ) throws(TemplateError) -> TemplateText {
    func nested(_ value: TemplateValue) throws(TemplateError) -> TemplateText {
      try json(
        value, indent: indent, sorted: sorted, ascii: ascii, separators: separators,
        level: level + 1)
    }
    let (itemMark, keyMark) = separators ?? (indent == nil ? ", " : ",", ": ")
    func line(_ level: Int) -> String {
      indent.map { "\n" + String(repeating: " ", count: $0 * level) } ?? ""
    }
    switch value {
    case .undefined(let name): throw .undefined("\(name) is undefined and has no JSON form")
    case .null: return TemplateText("null")
    case .flag(let flag): return TemplateText(flag ? "true" : "false")
    case .integer(let integer): return TemplateText("\(integer)")
    case .number(let number):
      let text = Self.number(number)
      return TemplateText(["nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"][text] ?? text)
    case .text(let text): return jsonQuoted(text, ascii: ascii)
    case .list(let list):
      guard !list.isEmpty else { return TemplateText("[]") }
      var result = TemplateText("[")
      for (index, item) in list.enumerated() {
        result += TemplateText((index > 0 ? itemMark : "") + line(level + 1))
        result += try nested(item)
      }
      return result + (line(level) + "]")
    case .object(let members):
      guard !members.isEmpty else { return TemplateText("{}") }
      var result = TemplateText("{")
      for (index, member) in (sorted ? members.sorted { $0.key < $1.key } : members).enumerated() {
        result += TemplateText((index > 0 ? itemMark : "") + line(level + 1))
        result += jsonQuoted(TemplateText(member.key, isData: true), ascii: ascii)
        result += TemplateText(keyMark)
        result += try nested(member.value)
      }
      return result + (line(level) + "}")
    case .namespace, .macro, .function: throw .runtime("\(value.kind) has no JSON form")
    }
  }

  private static func jsonQuoted(_ text: TemplateText, ascii: Bool) -> TemplateText {
    var result = TemplateText("\"")
    for (scalar, isData) in zip(text.scalars, text.isData) {
      let written: String
      switch scalar {
      case "\"": written = "\\\""
      case "\\": written = "\\\\"
      case "\n": written = "\\n"
      case "\r": written = "\\r"
      case "\t": written = "\\t"
      case "\u{8}": written = "\\b"
      case "\u{c}": written = "\\f"
      default:
        if scalar.value < 0x20 || (ascii && scalar.value > 0x7e) {
          written = String(scalar).utf16.map { unit in
            let hex = String(unit, radix: 16)
            return "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
          }.joined()
        } else {
          written = String(scalar)
        }
      }
      result += TemplateText(written, isData: isData)
    }
    return result + "\""
  }
}

/// Why a conversation cannot be rendered.
public struct TemplateError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure.
  public enum Code: Sendable, Hashable {
    /// The template is no template.
    case syntax
    /// The template refuses the conversation, in its own words.
    case raised
    /// A member or an operation of something that is not there.
    case undefined
    /// An operation that its values do not allow.
    case runtime
    /// More steps or output than a template may take.
    case limit
  }

  /// What kind of failure.
  public let code: Code
  /// What is wrong; of a refusal the template's own words.
  public let message: String
  /// What led to it, where something else failed first.
  public let cause: (any Error)?

  /// Creates an error.
  public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  static func syntax(_ message: String) -> TemplateError { TemplateError(.syntax, message) }
  static func undefined(_ message: String) -> TemplateError { TemplateError(.undefined, message) }
  static func runtime(_ message: String) -> TemplateError { TemplateError(.runtime, message) }

  /// The text to show.
  public var description: String { message }
}
