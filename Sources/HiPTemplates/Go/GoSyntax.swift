// SPDX-License-Identifier: Apache-2.0

/// A statement of a Go template.
indirect enum GoNode: Sendable {
  case text(TemplateText)
  case action(GoPipeline)
  /// `if` and `with`: the first case that is true, or what else there is.
  case branch([GoCase], otherwise: [GoNode], bindsDot: Bool)
  case range(GoPipeline, body: [GoNode], otherwise: [GoNode])
  /// A named template, on a value.
  case template(String, GoPipeline?, line: Int)
  case stop, skip
}

/// A condition with its statements.
struct GoCase: Sendable {
  let condition: GoPipeline
  var body: [GoNode]
}

/// Commands of which each takes what the one before it made, and the variables that keep the
/// result.
struct GoPipeline: Sendable {
  let line: Int
  /// Places of the variables that it sets: a place is what the parser made of a name and its scope.
  let targets: [Int]
  let commands: [GoCommand]
}

/// A value, or a function with its arguments.
enum GoCommand: Sendable {
  case value(GoOperand)
  case call(GoFunction, [GoOperand])
}

/// A value that a template names.
indirect enum GoOperand: Sendable {
  case constant(TemplateValue)
  case dot
  case variable(Int)
  /// A chain of fields.
  case member(of: GoOperand, [GoField])
  case pipeline(GoPipeline)
  /// A function without arguments, as an argument.
  case call(GoFunction)
}

/// A field by its name in Go, and the names that the wire may have for it.
struct GoField: Sendable {
  let name: String
  /// `ToolCallID` is `tool_call_id` on the wire, and `AnyOf` is `anyOf`.
  let wireNames: [String]

  init(_ name: String) {
    self.name = name
    wireNames = [Self.snakeCase(name), name.prefix(1).lowercased() + name.dropFirst()]
  }

  private static func snakeCase(_ name: String) -> String {
    let letters = Array(name)
    var result = ""
    for (index, letter) in letters.enumerated() {
      if index > 0, letter.isUppercase {
        let endsWord = !letters[index - 1].isUppercase && letters[index - 1] != "_"
        let startsWord = index + 1 < letters.count && letters[index + 1].isLowercase
        if endsWord || (startsWord && letters[index - 1] != "_") { result += "_" }
      }
      result += letter.lowercased()
    }
    return result
  }
}

/// Functions that a Go template can call.
enum GoFunction: String, Sendable {
  case and, or, not, eq, ne, lt, le, gt, ge, len, index, slice, print, printf, println
  case html, js, urlquery, json, currentDate, yesterdayDate, toTypeScriptType
}

extension TemplateError {
  /// The same failure with the line that it happened in.
  func at(line: Int) -> TemplateError {
    message.hasPrefix("line ")
      ? self : TemplateError(code, "line \(line): \(message)", cause: cause)
  }
}
