// SPDX-License-Identifier: Apache-2.0

/// What Go's templates ask of values; what is absent is the zero value of whatever is asked for.
extension TemplateValue {
  static let absent = TemplateValue.undefined("a field")

  var isAbsent: Bool {
    switch self {
    case .undefined, .null: true
    default: false
    }
  }

  /// How Go's errors name it.
  var goType: String {
    switch self {
    case .undefined, .null, .namespace, .macro, .function: "nil"
    case .flag: "bool"
    case .integer: "int"
    case .number: "float64"
    case .text: "string"
    case .list: "list"
    case .object: "map"
    }
  }

  /// What looking something up in it costs.
  var lookUpSteps: Int {
    switch self {
    case .object(let members): members.count / 16
    case .text(let text): text.count / 16
    case .list(let list): list.count / 16
    default: 0
    }
  }

  func member(_ key: String) -> TemplateValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }

  func field(_ field: GoField) throws(TemplateError) -> TemplateValue {
    switch self {
    case .undefined, .null: return .absent
    case .object:
      if let value = member(field.name) { return value }
      for name in field.wireNames {
        if let value = member(name) { return value }
      }
      // A number in Ollama's types, of which zero prints.
      return field.name == "Index" ? .integer(0) : .absent
    default:
      throw .runtime("can't evaluate field \(field.name) in type \(goType)")
    }
  }

  /// As `len` counts: bytes of a text.
  func goLength() throws(TemplateError) -> Int {
    switch self {
    case .undefined, .null: return 0
    case .text(let text): return text.utf8Count
    case .list(let list): return list.count
    case .object(let members): return members.count
    default: throw .runtime("len of type \(goType)")
    }
  }

  func indexed(by key: TemplateValue) throws(TemplateError) -> TemplateValue {
    switch (self, key) {
    case (.undefined, _), (.null, _): return .absent
    case (.object, .text(let name)): return member(name.string) ?? .absent
    case (.list(let list), .integer(let index)):
      guard list.indices.contains(index) else { throw .runtime("index out of range: \(index)") }
      return list[index]
    case (.text(let text), .integer(let index)):
      guard let byte = text.byte(at: index) else { throw .runtime("index out of range: \(index)") }
      return .integer(Int(byte))
    default: throw .runtime("can't index item of type \(goType) with \(key.goType)")
    }
  }

  func sliced(_ bounds: [TemplateValue]) throws(TemplateError) -> TemplateValue {
    let length = try goLength()
    var places: [Int] = []
    for bound in bounds {
      guard case .integer(let place) = bound else {
        throw .runtime("can't slice with a bound of type \(bound.goType)")
      }
      places.append(place)
    }
    let low = places.first ?? 0
    let high = places.count > 1 ? places[1] : length
    guard places.count < 4, 0 <= low, low <= high, high <= length,
      places.count < 3 || (high...length).contains(places[2])
    else { throw .runtime("slice out of range: \(places) of \(length)") }
    switch self {
    case .undefined, .null: return .absent
    case .list(let list): return .list(Array(list[low..<high]))
    case .text(let text) where places.count < 3:
      return .text(text[text.place(ofByte: low)..<text.place(ofByte: high)])
    default: throw .runtime("can't slice item of type \(goType)")
    }
  }

  /// As `eq` compares; what is absent equals every zero value.
  func goEquals(_ other: TemplateValue) throws(TemplateError) -> Bool {
    if isAbsent { return !other.isTrue }
    if other.isAbsent { return !isTrue }
    switch (self, other) {
    case (.flag(let a), .flag(let b)): return a == b
    case (.text(let a), .text(let b)): return a.scalars == b.scalars
    case (.integer, .integer), (.integer, .number), (.number, .integer), (.number, .number):
      return equals(other)
    default: throw .runtime("incompatible types for comparison: \(goType) and \(other.goType)")
    }
  }

  func goPrecedes(_ other: TemplateValue) throws(TemplateError) -> Bool {
    switch (self, other) {
    case (.text(let a), .text(let b)): return a.scalars.lexicographicallyPrecedes(b.scalars)
    case (.integer(let a), .integer(let b)): return a < b
    case (.undefined, .text(let b)), (.null, .text(let b)): return !b.isEmpty
    case (.text, .undefined), (.text, .null): return false
    case (.flag, _), (_, .flag): break
    default:
      let a = isAbsent ? 0 : asNumber
      let b = other.isAbsent ? 0 : other.asNumber
      if let a, let b { return a < b }
    }
    throw .runtime("incompatible types for comparison: \(goType) and \(other.goType)")
  }
}

/// Texts by the bytes of their UTF-8, as Go counts them.
extension TemplateText {
  var utf8Count: Int { scalars.reduce(0) { $0 + UTF8.width($1) } }

  /// The first character that begins at a byte or behind it.
  func place(ofByte byte: Int) -> Int {
    var rest = byte
    for (place, scalar) in scalars.enumerated() {
      guard rest > 0 else { return place }
      rest -= UTF8.width(scalar)
    }
    return count
  }

  func byte(at index: Int) -> UInt8? {
    var rest = index
    for scalar in scalars {
      let width = UTF8.width(scalar)
      guard rest >= width else { return rest < 0 ? nil : Array(String(scalar).utf8)[rest] }
      rest -= width
    }
    return nil
  }
}
