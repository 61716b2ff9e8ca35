// SPDX-License-Identifier: Apache-2.0

import HiPJSON

/// Says whether a value satisfies a schema; knows nothing of patterns and formats.
struct Validator {
  let root: JSONValue

  func accepts(_ value: JSONValue, _ schema: JSONValue) -> Bool {
    guard let members = schema.members, !members.isEmpty else { return true }
    if schema["nullable"] == .flag(true), value == .null { return true }
    if let reference = schema["$ref"]?.text { return accepts(value, target(reference)) }
    if let values = schema["enum"]?.items, !values.contains(value) { return false }
    if let constant = schema["const"], constant != value { return false }
    for key in ["anyOf", "oneOf", "allOf"] {
      if let entries = schema[key]?.items, !entries.contains(where: { accepts(value, $0) }) {
        return false
      }
    }
    if let type = schema["type"] {
      let names = type.items?.compactMap(\.text) ?? [type.text ?? ""]
      guard names.contains(where: { isOf($0, value) }) else { return false }
    }
    return switch value {
    case .text(let text): lengths(text.unicodeScalars.count, schema, "minLength", "maxLength")
    case .integer(let number): isWithin(number, schema)
    case .list(let items): arrayHolds(items, schema)
    case .object(let members): objectHolds(members, schema)
    default: true
    }
  }

  private func target(_ reference: String) -> JSONValue {
    var current = root
    for step in reference.split(separator: "/").dropFirst() {
      current = current[String(step)] ?? .flag(false)
    }
    return current
  }

  private func isOf(_ type: String, _ value: JSONValue) -> Bool {
    switch value {
    case .null: type == "null"
    case .flag: type == "boolean"
    case .integer: type == "integer" || type == "number"
    case .number: type == "number"
    case .text: type == "string"
    case .list: type == "array"
    case .object: type == "object"
    }
  }

  private func lengths(_ count: Int, _ schema: JSONValue, _ least: String, _ most: String) -> Bool {
    count >= schema[least]?.integer ?? 0 && count <= schema[most]?.integer ?? Int.max
  }

  private func isWithin(_ number: Int, _ schema: JSONValue) -> Bool {
    let value = Double(number)
    return value >= schema["minimum"]?.number ?? -.infinity
      && value <= schema["maximum"]?.number ?? .infinity
      && value > schema["exclusiveMinimum"]?.number ?? -.infinity
      && value < schema["exclusiveMaximum"]?.number ?? .infinity
  }

  private func arrayHolds(_ items: [JSONValue], _ schema: JSONValue) -> Bool {
    let first = schema["prefixItems"]?.items ?? []
    if schema["items"] == .flag(false), items.count > first.count { return false }
    return lengths(items.count, schema, "minItems", "maxItems")
      && items.enumerated().allSatisfy { index, item in
        accepts(item, index < first.count ? first[index] : schema["items"] ?? .flag(true))
      }
  }

  private func objectHolds(_ members: [JSONValue.Member], _ schema: JSONValue) -> Bool {
    let names = schema["required"]?.items?.compactMap(\.text) ?? []
    guard names.allSatisfy({ name in members.contains { $0.key == name } }) else { return false }
    let others = schema["additionalProperties"] ?? .flag(schema["properties"] == nil)
    return members.allSatisfy { member in
      if let property = schema["properties"]?[member.key] { return accepts(member.value, property) }
      return others != .flag(false) && accepts(member.value, others)
    }
  }
}
