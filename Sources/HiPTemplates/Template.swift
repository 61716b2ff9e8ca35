// SPDX-License-Identifier: Apache-2.0

/// A chat template in the language of Jinja, as model files hold them.
///
/// It sees what it is given and nothing else, and is bounded in steps and output.
public struct Template: Sendable {
  /// Its text.
  public let source: String
  private let statements: SharedStatements

  /// Statements hold no state; they are only read.
  private struct SharedStatements: @unchecked Sendable { let list: [TemplateStatement] }

  /// Parses a template.
  /// - Throws: `TemplateError` when it is none.
  public init(_ source: String) throws(TemplateError) {
    self.source = source
    statements = SharedStatements(list: try TemplateParser.statements(of: source))
  }

  /// The text that the template makes of some variables.
  /// - Parameters:
  ///   - variables: what the template can name, such as `messages`.
  ///   - clock: what `strftime_now` tells.
  /// - Throws: `TemplateError`; with `raised` the template refuses, and the message is its own.
  public func render(
    _ variables: [(key: String, value: TemplateValue)], clock: TemplateClock
  ) throws(TemplateError) -> TemplateText {
    var evaluator = TemplateEvaluator(
      clock: clock, given: variables.reduce(0) { $0 + $1.value.characterCount })
    return try evaluator.render(statements.list, variables)
  }
}

/// A point in time, as a calendar has it.
public struct TemplateClock: Sendable, Hashable {
  let year, month, day, hour, minute, second: Int

  /// Stores the parts.
  public init(year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0) {
    self.year = year
    self.month = min(max(month, 1), 12)
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
  }

  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
  ]
  private static let days = [
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
  ]

  /// 0 is a Sunday (Sakamoto).
  private var weekday: Int {
    let offsets = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4]
    let y = month < 3 ? year - 1 : year
    return ((y + y / 4 - y / 100 + y / 400 + offsets[month - 1] + day) % 7 + 7) % 7
  }

  private var dayOfYear: Int {
    let isLeap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
    let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return lengths[..<(month - 1)].reduce(0, +) + day
  }

  /// As C's `strftime` writes it in English; unknown letters stay.
  func formatted(_ format: String) -> String {
    func padded(_ value: Int, _ width: Int = 2, with pad: Character = "0") -> String {
      let text = "\(value)"
      return String(repeating: pad, count: max(0, width - text.count)) + text
    }
    var result = ""
    var characters = format.makeIterator()
    while let character = characters.next() {
      guard character == "%", var letter = characters.next() else {
        result.append(character)
        continue
      }
      let isBare = letter == "-"
      if isBare { letter = characters.next() ?? "-" }
      func number(_ value: Int) -> String { isBare ? "\(value)" : padded(value) }
      switch letter {
      case "Y": result += "\(year)"
      case "y": result += padded(year % 100)
      case "m": result += number(month)
      case "d": result += number(day)
      case "e": result += padded(day, with: " ")
      case "H": result += number(hour)
      case "I": result += number((hour + 11) % 12 + 1)
      case "M": result += number(minute)
      case "S": result += number(second)
      case "p": result += hour < 12 ? "AM" : "PM"
      case "B": result += Self.months[month - 1]
      case "b", "h": result += Self.months[month - 1].prefix(3)
      case "A": result += Self.days[weekday]
      case "a": result += Self.days[weekday].prefix(3)
      case "j": result += padded(dayOfYear, 3)
      case "w": result += "\(weekday)"
      case "F": result += "\(year)-\(padded(month))-\(padded(day))"
      case "T": result += "\(padded(hour)):\(padded(minute)):\(padded(second))"
      case "%": result += "%"
      default: result += "%" + (isBare ? "-" : "") + String(letter)
      }
    }
    return result
  }
}
