// SPDX-License-Identifier: Apache-2.0

public import HiPJSON

extension TemplateValue {
  /// Takes a JSON value; members of objects keep their order, texts are data, and of equal names the last one counts,
  /// where the first stood.
  public init(_ json: JSONValue) {
    switch json {
    case .null: self = .null
    case .flag(let flag): self = .flag(flag)
    case .integer(let integer): self = .integer(integer)
    case .number(let number): self = .number(number)
    case .text(let text): self = .text(TemplateText(text, isData: true))
    case .list(let items): self = .list(items.map { TemplateValue($0) })
    case .object(let members):
      var result: [(key: String, value: TemplateValue)] = []
      var places: [String: Int] = [:]
      for member in members {
        if let place = places[member.key] {
          result[place].value = TemplateValue(member.value)
        } else {
          places[member.key] = result.count
          result.append((member.key, TemplateValue(member.value)))
        }
      }
      self = .object(result)
    }
  }

  /// Reads JSON.
  /// - Throws: `TemplateError` when it is none, or nested more than 200 deep.
  public init(json: String) throws(TemplateError) {
    do {
      self.init(try JSONValue(Array(json.utf8)))
    } catch {
      throw .syntax("\(error)")
    }
  }
}
