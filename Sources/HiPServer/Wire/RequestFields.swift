// SPDX-License-Identifier: Apache-2.0

internal import HiPJSON

/// An object of a request, with errors that name its members.
///
/// A member that is null counts as absent, as in the clients that send all of them.
struct RequestFields: Sendable {
  let object: JSONValue
  /// Where it stands in the request, as `messages[0]`; empty for the whole.
  let path: String

  /// Reads a body.
  init(body: [UInt8]) throws(ServerError) {
    guard body.contains(where: { ![0x20, 0x09, 0x0a, 0x0d].contains($0) }) else {
      throw .badRequest("missing request body")
    }
    let value: JSONValue
    do {
      value = try JSONValue(body)
    } catch {
      throw .badRequest("the body is no JSON: \(error)")
    }
    guard value.members != nil else { throw .badRequest("the body must be a JSON object") }
    self.init(value, path: "")
  }

  init(_ object: JSONValue, path: String) {
    self.object = object
    self.path = path
  }

  /// A member that is there and not null.
  subscript(key: String) -> JSONValue? {
    let value = object[key]
    return value == .null ? nil : value
  }

  func name(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  func wrong(_ key: String, _ wanted: String) -> ServerError {
    .badRequest("\(name(key)) must be \(wanted)", parameter: name(key))
  }

  func text(_ key: String) throws(ServerError) -> String? {
    guard let value = self[key] else { return nil }
    guard let text = value.text else { throw wrong(key, "a string") }
    return text
  }

  /// The first of some texts that is there.
  func first(of keys: [String]) throws(ServerError) -> String? {
    for key in keys { if let text = try text(key) { return text } }
    return nil
  }

  func flag(_ key: String) throws(ServerError) -> Bool? {
    guard let value = self[key] else { return nil }
    guard let flag = value.flag else { throw wrong(key, "true or false") }
    return flag
  }

  func number(
    _ key: String, in range: ClosedRange<Double> = -1e9...1e9
  ) throws(ServerError) -> Double? {
    guard let value = self[key] else { return nil }
    guard let number = value.number, range.contains(number) else {
      throw wrong(key, "a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// A whole number; a fraction of nothing counts as one.
  func integer(
    _ key: String, in range: ClosedRange<Int> = -(1 << 53)...1 << 53
  ) throws(ServerError) -> Int? {
    guard let value = self[key] else { return nil }
    let whole =
      value.integer ?? value.number.flatMap { $0 == $0.rounded() ? Int(exactly: $0) : nil }
    guard let whole, range.contains(whole) else {
      throw wrong(key, "a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return whole
  }

  /// One text, or a list of them.
  func texts(_ key: String) throws(ServerError) -> [String]? {
    guard let value = self[key] else { return nil }
    if let text = value.text { return [text] }
    let texts = value.items?.compactMap(\.text)
    guard let texts, texts.count == value.items?.count else {
      throw wrong(key, "a string or a list of strings")
    }
    return texts
  }

  /// A list of objects.
  func objects(_ key: String) throws(ServerError) -> [RequestFields]? {
    guard let value = self[key] else { return nil }
    guard let items = value.items, items.allSatisfy({ $0.members != nil }) else {
      throw wrong(key, "a list of objects")
    }
    return items.enumerated().map { RequestFields($1, path: "\(name(key))[\($0)]") }
  }

  func fields(_ key: String) throws(ServerError) -> RequestFields? {
    guard let value = self[key] else { return nil }
    guard value.members != nil else { throw wrong(key, "an object") }
    return RequestFields(value, path: name(key))
  }
}

extension JSONValue {
  /// Token ids; nil where it is no list of whole numbers.
  var tokens: [Int32]? {
    guard let items, !items.isEmpty else { return nil }
    let ids = items.compactMap { $0.integer.flatMap { Int32(exactly: $0) } }
    return ids.count == items.count ? ids : nil
  }
}
