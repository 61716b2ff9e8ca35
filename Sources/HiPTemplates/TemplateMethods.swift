// SPDX-License-Identifier: Apache-2.0

/// Methods of texts, lists and objects, as Python has them.
enum TemplateMethods {
  static func call(
    _ name: String, on value: TemplateValue, _ given: TemplateArguments
  ) throws(TemplateError) -> TemplateValue {
    switch value {
    case .text(let text): return try call(name, on: text, given)
    case .object(let members): return try call(name, on: members, given)
    case .list(let list): return try call(name, on: list, given)
    case .undefined(let what): throw .undefined("\(what) is undefined and has no \(name)()")
    default: throw .undefined("\(value.kind) has no \(name)()")
    }
  }

  private static func call(
    _ name: String, on text: TemplateText, _ given: TemplateArguments
  ) throws(TemplateError) -> TemplateValue {
    func starts(_ other: TemplateText, atEnd: Bool) -> Bool {
      atEnd
        ? text.scalars.suffix(other.count).elementsEqual(other.scalars)
        : text.scalars.prefix(other.count).elementsEqual(other.scalars)
    }
    switch name {
    case "strip", "lstrip", "rstrip":
      return .text(
        text.trimmed(
          given.text(0, "chars").map { Set($0.scalars) }, start: name != "rstrip",
          end: name != "lstrip"))
    case "upper": return .text(text.mapped { $0.uppercased() })
    case "lower": return .text(text.mapped { $0.lowercased() })
    case "capitalize":
      var result = text[0..<min(1, text.count)].mapped { $0.uppercased() }
      result += text[min(1, text.count)..<text.count].mapped { $0.lowercased() }
      return .text(result)
    case "title":
      var result = TemplateText()
      var isInWord = false
      for index in 0..<text.count {
        let one = text[index..<index + 1]
        let isLetter = text.scalars[index].properties.isAlphabetic
        result += one.mapped { isInWord ? $0.lowercased() : $0.uppercased() }
        isInWord = isLetter
      }
      return .text(result)
    case "startswith", "endswith":
      let others: [TemplateValue]
      switch given.placed.first {
      case .list(let list)?: others = list
      case let other?: others = [other]
      case nil: throw .runtime("\(name) needs a text")
      }
      for case .text(let other) in others where starts(other, atEnd: name == "endswith") {
        return .flag(true)
      }
      return .flag(false)
    case "split", "rsplit":
      let separator = given.text(0, "sep")
      let limit = given.value(1, "maxsplit")?.asInteger ?? -1
      if let separator, separator.isEmpty { throw .runtime("split needs a separator") }
      guard name == "rsplit", limit >= 0, let separator else {
        return .list(try text.split(separator, limit: limit).map { .text($0) })
      }
      let parts = try text.split(separator, limit: -1)
      guard parts.count - 1 > limit else { return .list(parts.map { .text($0) }) }
      var head = TemplateText()
      for (index, part) in parts.dropLast(limit).enumerated() {
        if index > 0 { head += separator }
        head += part
      }
      return .list(([head] + parts.suffix(limit)).map { .text($0) })
    case "splitlines":
      var lines = try text.split(TemplateText("\n"), limit: -1)
      if lines.last?.isEmpty == true { lines.removeLast() }
      return .list(lines.map { .text($0) })
    case "replace":
      guard let old = given.text(0, "old"), let new = given.text(1, "new") else {
        throw .runtime("replace needs two texts")
      }
      return .text(
        try text.replacing(old, with: new, limit: given.value(2, "count")?.asInteger ?? -1))
    case "join":
      return try TemplateFilters.apply(
        "join", to: given.placed.first ?? .list([]), TemplateArguments(placed: [.text(text)]))
    case "find":
      return .integer(given.text(0, "sub").flatMap { text.firstIndex(of: $0.scalars) } ?? -1)
    case "count":
      guard let sub = given.text(0, "sub"), !sub.isEmpty else { return .integer(text.count + 1) }
      return .integer(try text.split(sub, limit: -1).count - 1)
    case "isdigit", "isnumeric", "isdecimal":
      return .flag(!text.isEmpty && text.scalars.allSatisfy { $0.properties.numericType != nil })
    case "isalpha":
      return .flag(!text.isEmpty && text.scalars.allSatisfy { $0.properties.isAlphabetic })
    case "isspace":
      return .flag(!text.isEmpty && text.scalars.allSatisfy { TemplateText.isSpace($0) })
    case "isupper", "islower":
      return .flag(try TemplateTests.holds(name == "isupper" ? "upper" : "lower", .text(text), []))
    case "format":
      var result = TemplateText()
      for (index, part) in try text.split(TemplateText("{}"), limit: -1).enumerated() {
        if index > 0 {
          guard index <= given.placed.count else { throw .runtime("too few values for {}") }
          result += given.placed[index - 1].printed()
        }
        result += part
      }
      return .text(result)
    default: throw .undefined("a text has no \(name)()")
    }
  }

  private static func call(
    _ name: String, on members: [(key: String, value: TemplateValue)], _ given: TemplateArguments
  ) throws(TemplateError) -> TemplateValue {
    func text(_ key: String) -> TemplateValue { .text(TemplateText(key, isData: true)) }
    switch name {
    case "items": return .list(members.map { .list([text($0.key), $0.value]) })
    case "keys": return .list(members.map { text($0.key) })
    case "values": return .list(members.map(\.value))
    case "copy": return .object(members)
    case "get":
      let key = given.text(0, "key")?.string
      return members.first { $0.key == key }?.value ?? given.value(1, "default") ?? .null
    case "update", "pop", "clear", "setdefault", "popitem":
      throw .runtime("a template may not change its objects: \(name)()")
    default: throw .undefined("an object has no \(name)()")
    }
  }

  private static func call(
    _ name: String, on list: [TemplateValue], _ given: TemplateArguments
  ) throws(TemplateError) -> TemplateValue {
    switch name {
    case "index":
      guard let value = given.placed.first, let index = list.firstIndex(where: { $0.equals(value) })
      else { throw .runtime("the list has no such element") }
      return .integer(index)
    case "count": return .integer(list.count { item in given.placed.first?.equals(item) ?? false })
    case "copy": return .list(list)
    case "append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort":
      throw .runtime("a template may not change its lists: \(name)()")
    default: throw .undefined("a list has no \(name)()")
    }
  }
}
