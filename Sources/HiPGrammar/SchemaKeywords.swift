// SPDX-License-Identifier: Apache-2.0

import HiPJSON

/// A place in a schema.
struct SchemaPlace {
  let path: String
  /// How many steps lead here from the root.
  let depth: Int

  static let root = SchemaPlace(path: "#", depth: 0)

  func child(_ names: String...) -> SchemaPlace {
    let steps = names.map { "/" + SchemaPointer.escaped($0) }.joined()
    return SchemaPlace(path: path + steps, depth: depth + 1)
  }
}

/// The keywords of one schema that say something about values.
struct SchemaKeywords {
  private static let ignored: Set<String> = [
    "title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated",
    "readOnly", "writeOnly", "strict", "$defs", "definitions",
  ]
  private static let supported: Set<String> = [
    "$ref", "enum", "const", "anyOf", "oneOf", "allOf", "type", "nullable", "properties",
    "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems",
    "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum",
  ]
  private static let refused: Set<String> = [
    "multipleOf", "not", "if", "then", "else", "patternProperties", "dependentRequired",
    "dependentSchemas", "dependencies", "unevaluatedItems", "unevaluatedProperties", "uniqueItems",
    "contains", "minContains", "maxContains", "minProperties", "maxProperties", "propertyNames",
  ]

  let place: SchemaPlace
  private var values: [String: JSONValue] = [:]

  init(_ members: [JSONValue.Member], at place: SchemaPlace) throws(GrammarError) {
    self.place = place
    for member in members where !Self.ignored.contains(member.key) {
      if member.key == "uniqueItems", member.value == .flag(false) { continue }
      let what = Self.refused.contains(member.key) ? "is not supported" : "is unknown"
      guard Self.supported.contains(member.key) else {
        throw error(.unsupported, "`\(member.key)` \(what); remove it", in: member.key)
      }
      values[member.key] = member.value
    }
  }

  var isEmpty: Bool { values.isEmpty }

  subscript(key: String) -> JSONValue? { values[key] }

  func hasAny(_ keys: String...) -> Bool { keys.contains { values[$0] != nil } }

  /// An error at this schema, or at a keyword of it.
  func error(
    _ code: GrammarError.Code, _ message: String, in key: String? = nil
  ) -> GrammarError {
    let place = key.map { self.place.child($0) } ?? self.place
    return GrammarError(code, at: place.path, message)
  }

  /// Refuses keywords that would have to hold together with `key`.
  func allow(_ others: Set<String> = [], beside key: String) throws(GrammarError) {
    let extra = values.keys.filter { $0 != key && $0 != "nullable" && !others.contains($0) }.min()
    guard let extra else { return }
    throw error(
      .unsupported, "`\(extra)` beside `\(key)` is not supported; keep one of them", in: extra)
  }

  func flag(_ key: String) throws(GrammarError) -> Bool {
    guard let value = values[key] else { return false }
    guard let flag = value.flag else { throw error(.invalid, "true or false is expected", in: key) }
    return flag
  }

  func items(_ key: String) throws(GrammarError) -> [JSONValue]? {
    guard let value = values[key] else { return nil }
    guard let items = value.items else { throw error(.invalid, "a list is expected", in: key) }
    return items
  }

  /// Least and most of a length or a count.
  func bounds(_ least: String, _ most: String) throws(GrammarError) -> (least: Int, most: Int?) {
    let low = try count(least) ?? 0
    let high = try count(most)
    if let high, high < low {
      throw error(.unsatisfiable, "`\(least)` \(low) exceeds `\(most)` \(high)", in: least)
    }
    return (low, high)
  }

  private func count(_ key: String) throws(GrammarError) -> Int? {
    guard let value = values[key] else { return nil }
    guard let number = value.number, number >= 0, number == number.rounded() else {
      throw error(.invalid, "a whole number from 0 on is expected", in: key)
    }
    guard number <= 10_000 else {
      throw error(.tooLarge, "`\(key)` goes up to 10000; lower it or remove it", in: key)
    }
    return Int(number)
  }
}
