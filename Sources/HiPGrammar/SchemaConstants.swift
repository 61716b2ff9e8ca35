// SPDX-License-Identifier: Apache-2.0

import HiPJSON

/// `enum` and `const`.
extension SchemaCompiler {
  func constants(_ keywords: SchemaKeywords, then next: Node) throws(GrammarError) -> Node {
    let key = keywords.hasAny("enum") ? "enum" : "const"
    try keywords.allow(["type"], beside: key)
    let types = try keywords.types
    let values = try keywords.items("enum") ?? [keywords["const"] ?? .null]
    let fitting = values.filter { value in types?.contains { value.isOf(type: $0) } ?? true }
    guard !fitting.isEmpty else {
      throw keywords.error(.unsatisfiable, "`\(key)` has no value of the type; add one", in: key)
    }
    var scalars: [[UInt8]] = []
    var options: [Node] = []
    for value in fitting {
      if let bytes = value.scalarBytes {
        scalars.append(bytes)
      } else {
        options.append(try constant(value, at: keywords.place.child(key), then: next))
      }
    }
    if !scalars.isEmpty { options.append(builder.words(scalars, then: next)) }
    return builder.split(options)
  }

  private func constant(_ value: JSONValue, at place: SchemaPlace, then next: Node)
    throws(GrammarError) -> Node
  {
    try builder.checkSize(at: place.path)
    guard place.depth <= Self.depthLimit else {
      throw GrammarError(.tooLarge, at: place.path, "it nests deeper than \(Self.depthLimit)")
    }
    if let bytes = value.scalarBytes { return builder.literal(bytes, then: next) }
    let inner = SchemaPlace(path: place.path, depth: place.depth + 1)
    if let items = value.items {
      return try list(items, "[", "]", then: next) { (item, next) throws(GrammarError) in
        try constant(item, at: inner, then: next)
      }
    }
    guard let members = value.members else {
      throw GrammarError(.invalid, at: place.path, "a number is not finite")
    }
    return try list(members, "{", "}", then: next) { (member, next) throws(GrammarError) in
      let value = try constant(member.value, at: inner, then: next)
      return builder.literal(JSONEscape.quoted(member.key), then: builder.colon(then: value))
    }
  }

  private func list<Item>(
    _ items: [Item], _ open: String, _ close: String, then next: Node,
    item: (Item, Node) throws(GrammarError) -> Node
  ) throws(GrammarError) -> Node {
    var result = builder.literal(close, then: next)
    if !items.isEmpty { result = builder.spaced(then: result) }
    for (index, element) in items.enumerated().reversed() {
      result = try item(element, result)
      if index > 0 { result = builder.comma(then: result) }
    }
    return builder.literal(open, then: builder.spaced(then: result))
  }
}

extension JSONValue {
  fileprivate func isOf(type: String) -> Bool {
    switch self {
    case .null: type == "null"
    case .flag: type == "boolean"
    case .integer: type == "integer" || type == "number"
    case .number(let number): type == "number" || type == "integer" && number == number.rounded()
    case .text: type == "string"
    case .list: type == "array"
    case .object: type == "object"
    }
  }

  /// How a value without parts is written; nil for others, and for numbers that JSON lacks.
  fileprivate var scalarBytes: [UInt8]? {
    switch self {
    case .null: Array("null".utf8)
    case .flag(let flag): Array((flag ? "true" : "false").utf8)
    case .integer(let number): Array("\(number)".utf8)
    case .number(let number): number.isFinite ? Array("\(number)".utf8) : nil
    case .text(let text): JSONEscape.quoted(text)
    case .list, .object: nil
    }
  }
}
