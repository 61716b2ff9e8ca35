// SPDX-License-Identifier: Apache-2.0

import HiPJSON

/// Dispatch on the types of a schema.
extension SchemaCompiler {
  static let typeNames = ["string", "number", "integer", "boolean", "null", "object", "array"]

  func typed(_ keywords: SchemaKeywords, then next: Node) throws(GrammarError) -> Node {
    let types = try keywords.types ?? keywords.impliedTypes
    guard !types.isEmpty else { return builder.call(builder.anyValueRule, then: next) }
    var options: [Node] = []
    for type in types { options.append(try values(of: type, keywords, then: next)) }
    return builder.split(options)
  }

  private func values(of type: String, _ keywords: SchemaKeywords, then next: Node)
    throws(GrammarError) -> Node
  {
    switch type {
    case "string": return try string(keywords, then: next)
    case "number": return try number(keywords, then: next)
    case "integer": return try integer(keywords, then: next)
    case "boolean": return builder.flag(then: next)
    case "null": return builder.null(then: next)
    case "object": return try object(keywords, then: next)
    case "array": return try array(keywords, then: next)
    default:
      throw keywords.error(
        .invalid, "`\(type)` is no type; use one of \(Self.typeNames.joined(separator: ", "))",
        in: "type")
    }
  }
}

extension SchemaKeywords {
  /// What `type` names; nil where it is absent.
  var types: [String]? {
    get throws(GrammarError) {
      guard let value = self["type"] else { return nil }
      if let name = value.text { return [name] }
      let names = value.items?.compactMap(\.text) ?? []
      guard !names.isEmpty, names.count == value.items?.count else {
        throw error(.invalid, "a type or a list of types is expected", in: "type")
      }
      return names
    }
  }

  /// The types that the other keywords speak of; empty where there are none.
  var impliedTypes: [String] {
    var types: [String] = []
    if hasAny("properties", "required", "additionalProperties") { types.append("object") }
    if hasAny("items", "prefixItems", "minItems", "maxItems") { types.append("array") }
    if hasAny("minLength", "maxLength", "pattern", "format") { types.append("string") }
    if hasAny("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") {
      types.append("integer")
    }
    return types
  }
}
