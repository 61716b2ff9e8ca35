// SPDX-License-Identifier: Apache-2.0

/// Operators, as Python has them.
enum TemplateArithmetic {
  static func signed(
    _ sign: String, _ value: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    switch value {
    case .integer(let integer):
      guard sign == "-" else { return value }
      let (result, overflow) = 0.subtractingReportingOverflow(integer)
      guard !overflow else { throw .runtime("a number is too large") }
      return .integer(result)
    case .number(let number): return .number(sign == "-" ? -number : number)
    case .flag(let flag): return .integer(sign == "-" ? (flag ? -1 : 0) : (flag ? 1 : 0))
    case .undefined(let name): throw .undefined("\(name) is undefined and is no number")
    default: throw .runtime("\(value.kind) has no sign")
    }
  }

  static func binary(
    _ sign: String, _ left: TemplateValue, _ right: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    if sign == "~" {
      var text = left.printed()
      text += right.printed()
      return .text(text)
    }
    for value in [left, right] {
      if case .undefined(let name) = value {
        throw .undefined("\(name) is undefined and cannot be computed with")
      }
    }
    switch (sign, left, right) {
    case ("+", .text(var a), .text(let b)):
      a += b
      return .text(a)
    case ("+", .list(let a), .list(let b)): return .list(a + b)
    case ("*", .text(let text), _) where right.asInteger != nil:
      let count = max(0, right.asInteger ?? 0)
      guard text.count.multipliedReportingOverflow(by: count).partialValue <= 1 << 26,
        count <= 1 << 26
      else { throw TemplateError(.limit, "a text grows too long") }
      var result = TemplateText()
      for _ in 0..<(text.isEmpty ? 0 : count) { result += text }
      return .text(result)
    case ("%", .text(let format), _):
      // The one form that templates use: a list of texts put in for %s.
      let values: [TemplateValue] = if case .list(let list) = right { list } else { [right] }
      var result = TemplateText()
      for (index, part) in try format.split(TemplateText("%s"), limit: -1).enumerated() {
        if index > 0 {
          guard index <= values.count else { throw .runtime("too few values for %s") }
          result += values[index - 1].printed()
        }
        result += part
      }
      return .text(result)
    default: break
    }
    guard let a = left.asNumber, let b = right.asNumber else {
      throw .runtime("\(left.kind) \(sign) \(right.kind) is not possible")
    }
    if ["/", "//", "%"].contains(sign), b == 0 { throw .runtime("division by zero") }
    if let i = left.asInteger, let j = right.asInteger, sign != "/" {
      let (result, overflow): (Int, Bool) =
        switch sign {
        case "+": i.addingReportingOverflow(j)
        case "-": i.subtractingReportingOverflow(j)
        case "*": i.multipliedReportingOverflow(by: j)
        case "//": (floorDivide(i, j), i == .min && j == -1)
        case "%": (i == .min && j == -1 ? 0 : i &- j &* floorDivide(i, j), false)
        default: (0, true)
        }
      if sign == "**" {
        let value = power(a, b)
        return Int(exactly: value).map { j >= 0 ? .integer($0) : .number(value) } ?? .number(value)
      }
      guard !overflow else { throw .runtime("a number is too large") }
      return .integer(result)
    }
    switch sign {
    case "+": return .number(a + b)
    case "-": return .number(a - b)
    case "*": return .number(a * b)
    case "/": return .number(a / b)
    case "//": return .number((a / b).rounded(.down))
    case "%": return .number(a - b * (a / b).rounded(.down))
    default: return .number(power(a, b))
    }
  }

  private static func floorDivide(_ i: Int, _ j: Int) -> Int {
    guard !(i == .min && j == -1) else { return 0 }
    let (quotient, remainder) = i.quotientAndRemainder(dividingBy: j)
    return remainder != 0 && (remainder < 0) != (j < 0) ? quotient - 1 : quotient
  }

  private static func power(_ base: Double, _ exponent: Double) -> Double {
    guard exponent == exponent.rounded(), abs(exponent) <= 64 else { return .nan }
    var result = 1.0
    for _ in 0..<Int(abs(exponent)) { result *= base }
    return exponent < 0 ? 1 / result : result
  }

  static func compares(
    _ sign: String, _ left: TemplateValue, _ right: TemplateValue
  ) throws(TemplateError) -> Bool {
    switch sign {
    case "==": return left.equals(right)
    case "!=": return !left.equals(right)
    case "in": return try contains(right, left)
    case "not in": return !(try contains(right, left))
    default: break
    }
    for value in [left, right] {
      if case .undefined(let name) = value {
        throw .undefined("\(name) is undefined and cannot be compared")
      }
    }
    guard let order = order(left, right) else {
      throw .runtime("\(left.kind) \(sign) \(right.kind) is not possible")
    }
    return switch sign {
    case "<": order < 0
    case "<=": order <= 0
    case ">": order > 0
    default: order >= 0
    }
  }

  /// Below, at or above zero as the left is less, equal or more; nil where they have no order.
  static func order(_ left: TemplateValue, _ right: TemplateValue) -> Int? {
    if let a = left.asNumber, let b = right.asNumber { return a < b ? -1 : a > b ? 1 : 0 }
    switch (left, right) {
    case (.text(let a), .text(let b)):
      if a.scalars == b.scalars { return 0 }
      return a.scalars.lexicographicallyPrecedes(b.scalars) ? -1 : 1
    case (.list(let a), .list(let b)):
      for (x, y) in zip(a, b) where !x.equals(y) { return order(x, y) }
      return a.count - b.count
    default: return nil
    }
  }

  private static func contains(
    _ whole: TemplateValue, _ part: TemplateValue
  ) throws(TemplateError) -> Bool {
    switch whole {
    case .list(let list): return list.contains { $0.equals(part) }
    case .object(let members):
      guard case .text(let name) = part else { return false }
      let key = name.string
      return members.contains { $0.key == key }
    case .text(let text):
      guard case .text(let sought) = part else {
        throw .runtime("\(part.kind) cannot be looked for in a text")
      }
      return text.firstIndex(of: sought.scalars) != nil
    case .undefined: return false
    default: throw .runtime("\(whole.kind) contains nothing")
    }
  }
}

/// What `is` tests.
enum TemplateTests {
  static func holds(
    _ name: String, _ value: TemplateValue, _ arguments: [TemplateValue]
  ) throws(TemplateError) -> Bool {
    func argument() throws(TemplateError) -> TemplateValue {
      guard let first = arguments.first else { throw .runtime("the test \(name) needs a value") }
      return first
    }
    switch name {
    case "defined": if case .undefined = value { return false } else { return true }
    case "undefined": if case .undefined = value { return true } else { return false }
    case "none": if case .null = value { return true } else { return false }
    case "string": if case .text = value { return true } else { return false }
    case "boolean": if case .flag = value { return true } else { return false }
    case "integer": if case .integer = value { return true } else { return false }
    case "float": if case .number = value { return true } else { return false }
    case "number": return value.asNumber != nil
    case "true": if case .flag(true) = value { return true } else { return false }
    case "false": if case .flag(false) = value { return true } else { return false }
    case "mapping": if case .object = value { return true } else { return false }
    case "callable":
      switch value {
      case .macro, .function: return true
      default: return false
      }
    case "iterable", "sequence":
      switch value {
      case .text, .list, .object: return true
      case .undefined: return name == "iterable" || name == "sequence"
      default: return false
      }
    case "odd", "even":
      guard let integer = value.asInteger else { throw .runtime("\(value.kind) is no integer") }
      return (integer % 2 != 0) == (name == "odd")
    case "divisibleby":
      guard let integer = value.asInteger, let by = try argument().asInteger, by != 0 else {
        throw .runtime("divisibleby needs integers")
      }
      // The smallest integer has no remainder by -1.
      return by == -1 || integer % by == 0
    case "equalto", "eq", "==", "sameas": return value.equals(try argument())
    case "ne", "!=": return !value.equals(try argument())
    case "in": return try TemplateArithmetic.compares("in", value, argument())
    case "lt", "lessthan", "gt", "greaterthan", "le", "ge":
      let signs = [
        "lt": "<", "lessthan": "<", "gt": ">", "greaterthan": ">", "le": "<=", "ge": ">=",
      ]
      return try TemplateArithmetic.compares(signs[name] ?? "<", value, argument())
    case "lower", "upper":
      let text = value.printed().string
      return text == (name == "lower" ? text.lowercased() : text.uppercased())
        && text.contains { $0.isLetter }
    default: throw .runtime("the test \"\(name)\" is not known")
    }
  }
}
