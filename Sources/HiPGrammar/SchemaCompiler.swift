// SPDX-License-Identifier: Apache-2.0

import HiPJSON

/// Turns one schema document into rules.
///
/// Schemas that are used in several places become rules, which wait in a list: neither the length
/// of a chain of references nor recursion needs stack.
final class SchemaCompiler {
  /// As deep as the JSON that this package reads.
  static let depthLimit = 200
  /// How many levels are compiled within each other, which is what bounds the stack.
  private static let inlineDepth = 16

  let builder: GrammarBuilder
  private let document: JSONValue
  private var rules: [String: Int32] = [:]
  private var waiting: [(rule: Int32, schema: JSONValue, place: SchemaPlace)] = []

  init(_ document: JSONValue, builder: GrammarBuilder) {
    self.document = document
    self.builder = builder
  }

  /// The texts that satisfy the document.
  func root(then next: Node) throws(GrammarError) -> Node {
    let root = rule(document, at: .root)
    while let job = waiting.popLast() {
      let start = try inlined(job.schema, at: job.place, then: GrammarBuilder.end)
      builder.define(job.rule, as: start)
    }
    return builder.call(root, then: next)
  }

  /// The rule of a schema, which may be used more than once.
  func rule(_ schema: JSONValue, at place: SchemaPlace) -> Int32 {
    if let known = rules[place.path] { return known }
    let rule = builder.declare(path: place.path)
    rules[place.path] = rule
    waiting.append((rule, schema, place))
    return rule
  }

  /// The values of a schema that is used here only.
  func node(_ schema: JSONValue, at place: SchemaPlace, then next: Node) throws(GrammarError)
    -> Node
  {
    if place.depth % Self.inlineDepth == 0 {
      return builder.call(rule(schema, at: place), then: next)
    }
    return try inlined(schema, at: place, then: next)
  }

  private func inlined(_ schema: JSONValue, at place: SchemaPlace, then next: Node)
    throws(GrammarError) -> Node
  {
    try builder.checkSize(at: place.path)
    guard place.depth <= Self.depthLimit else {
      throw GrammarError(.tooLarge, at: place.path, "it nests deeper than \(Self.depthLimit)")
    }
    if schema == .flag(true) { return builder.call(builder.anyValueRule, then: next) }
    if schema == .flag(false) {
      throw GrammarError(.unsatisfiable, at: place.path, "`false` allows no value; remove it")
    }
    guard let members = schema.members else {
      throw GrammarError(.invalid, at: place.path, "a schema is an object, or true")
    }
    let keywords = try SchemaKeywords(members, at: place)
    let value = try values(keywords, then: next)
    return try keywords.flag("nullable")
      ? builder.split([value, builder.null(then: next)]) : value
  }

  private func values(_ keywords: SchemaKeywords, then next: Node) throws(GrammarError) -> Node {
    if keywords.hasAny("$ref") { return try reference(keywords, then: next) }
    if keywords.hasAny("enum", "const") { return try constants(keywords, then: next) }
    for key in ["anyOf", "oneOf", "allOf"] where keywords.hasAny(key) {
      return try combination(key, keywords, then: next)
    }
    return try typed(keywords, then: next)
  }

  private func reference(_ keywords: SchemaKeywords, then next: Node) throws(GrammarError) -> Node {
    try keywords.allow(beside: "$ref")
    guard let text = keywords["$ref"]?.text else {
      throw keywords.error(.invalid, "a text is expected", in: "$ref")
    }
    if let known = rules[text] { return builder.call(known, then: next) }
    guard let target = SchemaPointer.find(text, in: document) else {
      throw keywords.error(
        .invalid, "`\(text)` names nothing in this schema; write `#` or `#/$defs/name`",
        in: "$ref")
    }
    // The depth starts over, as a reference is no nesting of the schema itself.
    return builder.call(rule(target, at: SchemaPlace(path: text, depth: 0)), then: next)
  }

  private func combination(_ key: String, _ keywords: SchemaKeywords, then next: Node)
    throws(GrammarError) -> Node
  {
    try keywords.allow(beside: key)
    let entries = try keywords.items(key) ?? []
    guard !entries.isEmpty else {
      throw keywords.error(.invalid, "`\(key)` needs an entry", in: key)
    }
    guard key != "allOf" || entries.count == 1 else {
      throw keywords.error(
        .unsupported, "`allOf` with more than one entry is not supported; merge the entries",
        in: key)
    }
    var options: [Node] = []
    for (index, entry) in entries.enumerated() {
      options.append(try node(entry, at: keywords.place.child(key, "\(index)"), then: next))
    }
    return builder.split(options)
  }
}
