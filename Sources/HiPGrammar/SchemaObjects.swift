// SPDX-License-Identifier: Apache-2.0

import HiPJSON

/// Objects: declared members in their order, then others where the schema lets them.
extension SchemaCompiler {
  func object(_ keywords: SchemaKeywords, then next: Node) throws(GrammarError) -> Node {
    let properties = try keywords.properties()
    let others = try otherValues(keywords)
    let close = builder.literal("}", then: next)
    let names = properties.map(\.name)

    // What may stand where no member stands yet, and what may follow one.
    var first = close
    var rest = builder.spaced(then: close)
    if let others {
      rest = builder.loop(exit: rest) {
        builder.comma(then: otherMember(than: names, others, then: $0))
      }
      first = builder.split([otherMember(than: names, others, then: rest), close])
    }
    for property in properties.reversed() {
      let member = try member(property, others, then: rest)
      let following = builder.comma(then: member)
      first = property.isRequired ? member : builder.split([member, first])
      rest = property.isRequired ? following : builder.split([following, rest])
    }
    return builder.literal("{", then: builder.spaced(then: first))
  }

  private func member(_ property: SchemaProperty, _ others: Int32?, then next: Node)
    throws(GrammarError) -> Node
  {
    let value: Node
    if let schema = property.schema {
      value = try node(schema, at: property.place, then: next)
    } else if let others {
      value = builder.call(others, then: next)
    } else {
      throw GrammarError(
        .unsatisfiable, at: property.place.path,
        "`\(property.name)` is required, but not among the properties; add it there")
    }
    let name = JSONEscape.quoted(property.name)
    return builder.literal(name, then: builder.colon(then: value))
  }

  private func otherMember(than names: [String], _ values: Int32, then next: Node) -> Node {
    let value = builder.colon(then: builder.call(values, then: next))
    return names.isEmpty
      ? builder.string(then: value) : builder.otherName(than: names, then: value)
  }

  /// The rule of members without a declaration; nil where there are none.
  private func otherValues(_ keywords: SchemaKeywords) throws(GrammarError) -> Int32? {
    switch keywords["additionalProperties"] {
    case nil: return keywords.hasAny("properties") ? nil : builder.anyValueRule
    case .flag(let isAllowed): return isAllowed ? builder.anyValueRule : nil
    case .some(let schema): return rule(schema, at: keywords.place.child("additionalProperties"))
    }
  }
}

/// A member that a schema names; without a schema of its own where only `required` names it.
struct SchemaProperty {
  let name: String
  let schema: JSONValue?
  let place: SchemaPlace
  let isRequired: Bool
}

extension SchemaKeywords {
  fileprivate func properties() throws(GrammarError) -> [SchemaProperty] {
    let required = try requiredNames()
    let value = self["properties"] ?? .object([])
    guard let members = value.members else {
      throw error(.invalid, "an object is expected", in: "properties")
    }
    var names: Set<String> = []
    var result: [SchemaProperty] = []
    for member in members {
      guard names.insert(member.key).inserted else {
        throw error(.invalid, "`\(member.key)` stands here twice", in: "properties")
      }
      result.append(
        SchemaProperty(
          name: member.key, schema: member.value, place: place.child("properties", member.key),
          isRequired: required.contains(member.key)))
    }
    for name in required.subtracting(names).sorted() {
      result.append(
        SchemaProperty(name: name, schema: nil, place: place.child("required"), isRequired: true))
    }
    return result
  }

  private func requiredNames() throws(GrammarError) -> Set<String> {
    let items = try items("required") ?? []
    let names = items.compactMap(\.text)
    guard names.count == items.count else {
      throw error(.invalid, "a list of names is expected", in: "required")
    }
    return Set(names)
  }
}
