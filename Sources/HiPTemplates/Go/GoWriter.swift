// SPDX-License-Identifier: Apache-2.0

/// A text that grows up to a bound, and writes values as Go's `fmt` and `encoding/json` do.
struct GoWriter {
  private(set) var text = TemplateText()
  let most: Int

  init(most: Int) { self.most = most }

  private func permit(_ count: Int) throws(TemplateError) {
    guard count <= most - text.count else {
      throw TemplateError(.limit, "the template writes more than \(most) characters")
    }
  }

  mutating func write(_ more: TemplateText) throws(TemplateError) {
    try permit(more.count)
    text.append(more)
  }

  mutating func write(_ more: String, isData: Bool = false) throws(TemplateError) {
    try write(TemplateText(more, isData: isData))
  }

  mutating func write(_ scalar: Unicode.Scalar, isData: Bool) throws(TemplateError) {
    try permit(1)
    text.scalars.append(scalar)
    text.isData.append(isData)
  }

  /// A text in which some characters are written otherwise, each as much data as before.
  mutating func write(
    _ more: TemplateText, escaping escape: (Unicode.Scalar) -> String?
  ) throws(TemplateError) {
    for (scalar, isData) in zip(more.scalars, more.isData) {
      if let escaped = escape(scalar) {
        for part in escaped.unicodeScalars { try write(part, isData: isData) }
      } else {
        try write(scalar, isData: isData)
      }
    }
  }

  /// A value as an action prints it: nothing for what is absent, and objects as JSON, which is what
  /// Ollama's own types print.
  mutating func print(_ value: TemplateValue) throws(TemplateError) {
    switch value {
    case .undefined, .null, .namespace, .macro, .function: return
    case .flag(let flag): try write(flag ? "true" : "false")
    case .integer(let integer): try write("\(integer)")
    case .number(let number): try write(GoNumber.general(number))
    case .text(let text): try write(text)
    case .list(let list) where list.allSatisfy(\.isScalar):
      try write("[")
      for (index, item) in list.enumerated() {
        if index > 0 { try write(" ") }
        try print(item)
      }
      try write("]")
    case .list, .object: try json(value)
    }
  }

  /// JSON as `encoding/json` writes it without escapes for HTML; members keep their order.
  mutating func json(_ value: TemplateValue) throws(TemplateError) {
    switch value {
    case .undefined, .null, .namespace, .macro, .function: try write("null")
    case .flag(let flag): try write(flag ? "true" : "false")
    case .integer(let integer): try write("\(integer)")
    case .number(let number): try write(GoNumber.json(number))
    case .text(let text): try quoted(text)
    case .list(let list): try json(list)
    case .object(let members): try json(members)
    }
  }

  // Apart from the other cases: what calls itself shall take little of the stack.
  private mutating func json(_ list: [TemplateValue]) throws(TemplateError) {
    try write("[")
    for (index, item) in list.enumerated() {
      if index > 0 { try write(",") }
      try json(item)
    }
    try write("]")
  }

  private mutating func json(
    _ members: [(key: String, value: TemplateValue)]
  ) throws(TemplateError) {
    try write("{")
    for (index, member) in members.enumerated() {
      if index > 0 { try write(",") }
      try quoted(TemplateText(member.key, isData: true))
      try write(":")
      try json(member.value)
    }
    try write("}")
  }

  private mutating func quoted(_ text: TemplateText) throws(TemplateError) {
    try write("\"")
    try write(text) { scalar in
      switch scalar {
      case "\"": "\\\""
      case "\\": "\\\\"
      case "\n": "\\n"
      case "\r": "\\r"
      case "\t": "\\t"
      case "\u{8}": "\\b"
      case "\u{c}": "\\f"
      // Line ends of JavaScript, which JSON would allow.
      case "\u{0}"..."\u{1f}", "\u{2028}", "\u{2029}": "\\u" + GoNumber.hex(scalar.value, 4)
      default: nil
      }
    }
    try write("\"")
  }
}

extension TemplateValue {
  var isScalar: Bool {
    switch self {
    case .list, .object: false
    default: true
    }
  }
}
