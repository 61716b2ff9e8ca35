// SPDX-License-Identifier: Apache-2.0

import HiPJSON

/// References within a document, as in `#/$defs/node`.
enum SchemaPointer {
  static func escaped(_ name: String) -> String {
    guard name.utf8.contains(where: { $0 == 0x7e || $0 == 0x2f }) else { return name }
    return name.reduce(into: "") { result, character in
      switch character {
      case "~": result += "~0"
      case "/": result += "~1"
      default: result.append(character)
      }
    }
  }

  static func unescaped(_ step: Substring) -> String {
    let parts = step.split(separator: "~1", omittingEmptySubsequences: false)
    return parts.map { part in
      part.split(separator: "~0", omittingEmptySubsequences: false).joined(separator: "~")
    }.joined(separator: "/")
  }

  /// What a reference names; nil where there is nothing.
  static func find(_ reference: String, in document: JSONValue) -> JSONValue? {
    guard reference.first == "#" else { return nil }
    let steps = reference.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    guard steps.first?.isEmpty ?? true else { return nil }
    var current = document
    for step in steps.dropFirst() {
      let name = unescaped(step)
      if let items = current.items {
        guard let index = Int(name), items.indices.contains(index) else { return nil }
        current = items[index]
      } else {
        guard let value = current[name] else { return nil }
        current = value
      }
    }
    return current
  }
}
