// SPDX-License-Identifier: Apache-2.0

/// Functions of Go's text/template, and those that Ollama adds; `and` and `or` are the evaluator's
/// own.
struct GoFunctions {
  let clock: TemplateClock
  /// The longest text that one makes.
  let most: Int

  func call(
    _ function: GoFunction, _ arguments: [TemplateValue]
  ) throws(TemplateError) -> TemplateValue {
    try Self.check(function, arguments.count)
    switch function {
    case .and, .or: return arguments.last ?? .absent
    case .not: return .flag(!arguments[0].isTrue)
    case .eq, .ne, .lt, .le, .gt, .ge: return .flag(try Self.compare(function, arguments))
    case .len: return .integer(try arguments[0].goLength())
    case .index:
      var value = arguments[0]
      for key in arguments.dropFirst() { value = try value.indexed(by: key) }
      return value
    case .slice: return try arguments[0].sliced(Array(arguments.dropFirst()))
    case .currentDate: return .text(TemplateText(clock.formatted("%F")))
    case .yesterdayDate: return .text(TemplateText(clock.dayBefore.formatted("%F")))
    case .toTypeScriptType: return .text(TemplateText(GoTypeScript.type(of: arguments[0])))
    case .print, .printf, .println, .html, .js, .urlquery, .json:
      var writer = GoWriter(most: most)
      try write(function, arguments, to: &writer)
      return .text(writer.text)
    }
  }

  private static func check(_ function: GoFunction, _ count: Int) throws(TemplateError) {
    let least =
      switch function {
      case .print, .println, .html, .js, .urlquery, .currentDate, .yesterdayDate: 0
      case .and, .or, .not, .len, .index, .slice, .printf, .json, .toTypeScriptType: 1
      case .eq, .ne, .lt, .le, .gt, .ge: 2
      }
    let most =
      switch function {
      case .not, .len, .json, .toTypeScriptType: 1
      case .ne, .lt, .le, .gt, .ge: 2
      case .slice: 4
      default: Int.max
      }
    guard count >= least, count <= most else {
      throw .runtime("wrong number of arguments for \(function.rawValue): \(count)")
    }
  }

  private static func compare(
    _ function: GoFunction, _ values: [TemplateValue]
  ) throws(TemplateError) -> Bool {
    switch function {
    case .eq:
      for other in values.dropFirst() where try values[0].goEquals(other) { return true }
      return false
    case .ne: return try !values[0].goEquals(values[1])
    case .lt: return try values[0].goPrecedes(values[1])
    case .ge: return try !values[0].goPrecedes(values[1])
    case .gt: return try values[1].goPrecedes(values[0])
    default: return try !values[1].goPrecedes(values[0])
    }
  }

  private func write(
    _ function: GoFunction, _ arguments: [TemplateValue], to writer: inout GoWriter
  ) throws(TemplateError) {
    switch function {
    case .json: try writer.json(arguments[0])
    case .printf:
      guard case .text(let format) = arguments[0] else {
        throw .runtime("the format of printf is no text")
      }
      var formatter = GoFormatter(format, Array(arguments.dropFirst()), writer)
      writer = try formatter.run()
    case .println:
      for (index, argument) in arguments.enumerated() {
        if index > 0 { try writer.write(" ") }
        try writer.print(argument)
      }
      try writer.write("\n")
    case .print: try writer.print(all: arguments)
    default:
      var text = GoWriter(most: most)
      try text.print(all: arguments)
      try writer.write(text.text) { GoEscapes.escape($0, for: function) }
    }
  }
}

extension GoWriter {
  /// Values with a space between two of which none is a text.
  mutating func print(all values: [TemplateValue]) throws(TemplateError) {
    var follows = false
    for (index, value) in values.enumerated() {
      let isText = if case .text = value { true } else { value.isAbsent }
      if index > 0, !isText, follows { try write(" ") }
      follows = !isText
      try print(value)
    }
  }
}

extension TemplateClock {
  var dayBefore: TemplateClock {
    if day > 1 { return TemplateClock(year: year, month: month, day: day - 1) }
    guard month > 1 else { return TemplateClock(year: year - 1, month: 12, day: 31) }
    let isLeap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
    let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return TemplateClock(year: year, month: month - 1, day: lengths[month - 2])
  }
}

/// Types of a tool's parameters as TypeScript names them.
enum GoTypeScript {
  static func type(of property: TemplateValue, depth: Int = 0) -> String {
    if depth < 100, case .list(let choices)? = property.member("anyOf"), !choices.isEmpty {
      return choices.map { type(of: $0, depth: depth + 1) }.joined(separator: " | ")
    }
    switch property.member("type") {
    case .text(let name)?: return named(name.string)
    case .list(let names)? where !names.isEmpty:
      return names.map { name in
        if case .text(let text) = name { named(text.string) } else { "any" }
      }.joined(separator: " | ")
    default: return "any"
    }
  }

  private static func named(_ type: String) -> String {
    switch type {
    case "string", "boolean", "null", "number": type
    case "integer": "number"
    case "array": "any[]"
    case "object": "Record<string, any>"
    default: "any"
    }
  }
}
