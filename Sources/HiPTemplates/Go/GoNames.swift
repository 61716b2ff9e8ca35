// SPDX-License-Identifier: Apache-2.0

/// Roles and names of functions, which are not data: templates make control tokens of roles.
enum GoNames {
  /// A text without marks if it is a name; one that could spell more than a name stays data.
  private static func plain(_ value: TemplateValue) -> TemplateValue {
    guard case .text(let text) = value else { return value }
    let isName = text.scalars.allSatisfy { scalar in
      switch scalar {
      case "a"..."z", "A"..."Z", "0"..."9", "_", "-", ".": true
      default: false
      }
    }
    return isName ? .text(TemplateText(text.string)) : value
  }

  /// An object in which some members are changed.
  private static func changed(
    _ value: TemplateValue, _ change: (String, TemplateValue) -> TemplateValue
  ) -> TemplateValue {
    guard case .object(let members) = value else { return value }
    return .object(members.map { ($0.key, change($0.key, $0.value)) })
  }

  static func message(_ value: TemplateValue) -> GoTurns.Message {
    let changed = changed(value) { key, member in
      switch key {
      case "role", "name", "tool_name": plain(member)
      case "tool_calls": plain(inTools: member)
      default: member
      }
    }
    guard case .object(let members) = changed else { return .init(role: "", members: []) }
    if case .text(let role)? = changed.member("role") {
      return .init(role: role.string, members: members)
    }
    return .init(role: "", members: members)
  }

  /// Tools, or calls of them.
  static func plain(inTools tools: TemplateValue) -> TemplateValue {
    guard case .list(let list) = tools else { return tools }
    return .list(
      list.map { tool in
        changed(tool) { key, member in
          guard key == "function" else { return key == "type" ? plain(member) : member }
          return changed(member) { key, name in key == "name" ? plain(name) : name }
        }
      })
  }
}
