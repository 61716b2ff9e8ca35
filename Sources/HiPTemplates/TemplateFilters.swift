// SPDX-License-Identifier: Apache-2.0

/// What `|` applies.
enum TemplateFilters {
  static func apply(
    _ name: String, to value: TemplateValue, _ given: TemplateArguments
  ) throws(TemplateError) -> TemplateValue {
    switch name {
    case "trim":
      return .text(value.printed().trimmed(given.text(0, "chars").map { Set($0.scalars) }))
    case "length", "count":
      switch value {
      case .text(let text): return .integer(text.count)
      case .list(let list): return .integer(list.count)
      case .object(let members): return .integer(members.count)
      case .undefined: return .integer(0)
      default: throw .runtime("\(value.kind) has no length")
      }
    case "upper", "lower", "title", "capitalize":
      return try TemplateMethods.call(name, on: .text(value.printed()), TemplateArguments())
    case "string": return .text(value.printed())
    case "safe", "forceescape": return .text(value.printed())
    case "escape", "e": return .text(escaped(value.printed()))
    case "default", "d":
      let fallback = given.value(0, "default_value") ?? .text(TemplateText(""))
      if case .undefined = value { return fallback }
      return given.value(1, "boolean")?.isTrue == true && !value.isTrue ? fallback : value
    case "tojson":
      var indent: Int?
      if let integer = given.value(0, "indent")?.asInteger { indent = min(max(0, integer), 16) }
      var separators: (String, String)?
      if case .list(let pair)? = given["separators"], pair.count == 2 {
        separators = (pair[0].printed().string, pair[1].printed().string)
      }
      return .text(
        try PythonText.json(
          value, indent: indent, sorted: given["sort_keys"]?.isTrue == true,
          ascii: given["ensure_ascii"]?.isTrue == true, separators: separators))
    case "int":
      if let integer = value.asInteger { return .integer(integer) }
      if case .number(let number) = value, abs(number) < 1e18 { return .integer(Int(number)) }
      let text = value.printed().trimmed(nil).string
      if let integer = Int(text) { return .integer(integer) }
      if let number = Double(text), abs(number) < 1e18 { return .integer(Int(number)) }
      return given.value(0, "default") ?? .integer(0)
    case "float":
      if let number = value.asNumber { return .number(number) }
      return Double(value.printed().trimmed(nil).string).map { .number($0) }
        ?? given.value(0, "default") ?? .number(0)
    case "abs":
      if case .integer(let integer) = value, integer != .min { return .integer(abs(integer)) }
      guard let number = value.asNumber else { throw .runtime("\(value.kind) is no number") }
      return .number(abs(number))
    case "round":
      guard let number = value.asNumber else { throw .runtime("\(value.kind) is no number") }
      var scale = 1.0
      for _ in 0..<min(max(0, given.value(0, "precision")?.asInteger ?? 0), 15) { scale *= 10 }
      return .number((number * scale).rounded(.toNearestOrEven) / scale)
    case "replace":
      guard let old = given.text(0, "old"), let new = given.text(1, "new") else {
        throw .runtime("replace needs two texts")
      }
      return .text(
        try value.printed().replacing(
          old, with: new, limit: given.value(2, "count")?.asInteger ?? -1))
    case "indent": return .text(try indented(value.printed(), given))
    case "wordcount": return .integer(try value.printed().split(nil, limit: -1).count)
    case "items":
      if case .undefined = value { return .list([]) }
      return try TemplateMethods.call("items", on: value, given)
    default: return try list(name, value, given)
    }
  }

  private static func escaped(_ text: TemplateText) -> TemplateText {
    text.mapped { text in
      text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
        .replacing("\"", with: "&#34;").replacing("'", with: "&#39;")
    }
  }

  private static func indented(
    _ text: TemplateText, _ given: TemplateArguments
  ) throws(TemplateError) -> TemplateText {
    var margin = TemplateText("    ")
    if let width = given.value(0, "width")?.asInteger {
      margin = TemplateText(String(repeating: " ", count: min(max(0, width), 256)))
    } else if let text = given.text(0, "width") {
      margin = text
    }
    let first = given.value(1, "first")?.isTrue == true
    let blank = given.value(2, "blank")?.isTrue == true
    var result = TemplateText()
    for (index, line) in try text.split(TemplateText("\n"), limit: -1).enumerated() {
      if index > 0 { result += TemplateText("\n") }
      if index > 0 ? (blank || !line.isEmpty) : first { result += margin }
      result += line
    }
    return result
  }

  /// Filters of lists.
  private static func list(
    _ name: String, _ value: TemplateValue, _ given: TemplateArguments
  ) throws(TemplateError) -> TemplateValue {
    func items() throws(TemplateError) -> [TemplateValue] {
      try TemplateEvaluator.items(of: value)
    }
    func attribute(_ item: TemplateValue, _ path: TemplateText) -> TemplateValue {
      var item = item
      for part in path.string.split(separator: ".") {
        switch item {
        case .object(let members):
          item = members.first { $0.key == part }?.value ?? .undefined(String(part))
        case .list(let list):
          item =
            Int(part).flatMap { list.indices.contains($0) ? list[$0] : nil }
            ?? .undefined(String(part))
        default: item = .undefined(String(part))
        }
      }
      return item
    }
    func key(_ item: TemplateValue) -> TemplateValue {
      given.text(0, "attribute").map { attribute(item, $0) } ?? item
    }
    switch name {
    case "list": return .list(try items())
    case "first": return try items().first ?? .undefined("the first element")
    case "last": return try items().last ?? .undefined("the last element")
    case "reverse":
      if case .text(let text) = value {
        return .text(
          TemplateText(scalars: text.scalars.reversed(), isData: text.isData.reversed()))
      }
      return .list(try items().reversed())
    case "join":
      let separator = given.value(0, "d")?.printed() ?? TemplateText("")
      var result = TemplateText()
      for (index, item) in try items().enumerated() {
        if index > 0 { result += separator }
        result += (given.text(1, "attribute").map { attribute(item, $0) } ?? item).printed()
      }
      return .text(result)
    case "map":
      if let path = given.text(0, ""), given["attribute"] == nil {
        var rest = given
        rest.placed.removeFirst()
        var results: [TemplateValue] = []
        for item in try items() { results.append(try apply(path.string, to: item, rest)) }
        return .list(results)
      }
      guard let path = given.text(9, "attribute") else { throw .runtime("map needs a filter") }
      return .list(
        try items().map { item in
          let found = attribute(item, path)
          if case .undefined = found, let fallback = given["default"] { return fallback }
          return found
        })
    case "select", "reject", "selectattr", "rejectattr":
      let isOfAttribute = name.hasSuffix("attr")
      let path = isOfAttribute ? given.text(0, "") : nil
      let offset = isOfAttribute ? 1 : 0
      let test = given.text(offset, "")?.string
      let arguments = Array(given.placed.dropFirst(offset + 1))
      var kept: [TemplateValue] = []
      for item in try items() {
        let judged = path.map { attribute(item, $0) } ?? item
        let holds =
          try test.map { test throws(TemplateError) in
            try TemplateTests.holds(test, judged, arguments)
          } ?? judged.isTrue
        if holds == name.hasPrefix("select") { kept.append(item) }
      }
      return .list(kept)
    case "unique":
      var kept: [TemplateValue] = []
      for item in try items() where !kept.contains(where: { key($0).equals(key(item)) }) {
        kept.append(item)
      }
      return .list(kept)
    case "sort":
      let isReversed = given.value(0, "reverse")?.isTrue == true
      let path = given["attribute"].map { $0.printed() }
      func key(_ item: TemplateValue) -> TemplateValue {
        let found = path.map { attribute(item, $0) } ?? item
        guard given["case_sensitive"]?.isTrue != true, case .text(let text) = found else {
          return found
        }
        return .text(text.mapped { $0.lowercased() })
      }
      let list = try items()
      for pair in zip(list, list.dropFirst())
      where TemplateArithmetic.order(key(pair.0), key(pair.1)) == nil {
        throw .runtime("\(pair.0.kind) and \(pair.1.kind) have no order")
      }
      let sorted = list.enumerated().sorted { a, b in
        let order = TemplateArithmetic.order(key(a.element), key(b.element)) ?? 0
        return order == 0 ? a.offset < b.offset : (order < 0) != isReversed
      }
      return .list(sorted.map(\.element))
    case "dictsort":
      guard case .object(let members) = value else { throw .runtime("\(value.kind) is no object") }
      let sorted = members.sorted { $0.key.lowercased() < $1.key.lowercased() }
      return .list(sorted.map { .list([.text(TemplateText($0.key, isData: true)), $0.value]) })
    case "sum":
      var total = TemplateValue.integer(0)
      for item in try items() { total = try TemplateArithmetic.binary("+", total, key(item)) }
      return total
    case "min", "max":
      var best: TemplateValue?
      for item in try items() {
        guard let before = best else {
          best = item
          continue
        }
        guard let order = TemplateArithmetic.order(item, before) else {
          throw .runtime("\(item.kind) and \(before.kind) have no order")
        }
        if name == "min" ? order < 0 : order > 0 { best = item }
      }
      return best ?? .undefined("the \(name) of nothing")
    case "attr": return given.text(0, "name").map { attribute(value, $0) } ?? .undefined("attr")
    default: throw .runtime("the filter \"\(name)\" is not known")
    }
  }
}
