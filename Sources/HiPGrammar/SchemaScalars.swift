// SPDX-License-Identifier: Apache-2.0

import HiPJSON

/// Texts and numbers.
extension SchemaCompiler {
  func string(_ keywords: SchemaKeywords, then next: Node) throws(GrammarError) -> Node {
    let stringKeys = ["pattern", "format", "minLength", "maxLength"].filter { keywords.hasAny($0) }
    guard let key = stringKeys.first else { return builder.string(then: next) }
    if key == "minLength" || key == "maxLength" {
      let bounds = try keywords.bounds("minLength", "maxLength")
      let quote = builder.literal("\"", then: next)
      let content = builder.repeated(bounds.least, bounds.most, exit: quote) {
        builder.character(then: $0)
      }
      return builder.literal("\"", then: content)
    }
    if stringKeys.count > 1 {
      throw keywords.error(
        .unsupported, "`\(stringKeys[1])` beside `\(key)` is not supported; keep one of them",
        in: stringKeys[1])
    }
    guard let text = keywords[key]?.text else {
      throw keywords.error(.invalid, "a text is expected", in: key)
    }
    let pattern = key == "pattern" ? text : try format(text, keywords)
    let place = keywords.place.child(key)
    return builder.quoted(try PatternReader.read(pattern, at: place.path), then: next)
  }

  private func format(_ name: String, _ keywords: SchemaKeywords) throws(GrammarError) -> String {
    guard let pattern = StringFormats.patterns[name] else {
      let known = StringFormats.names.joined(separator: ", ")
      throw keywords.error(
        .unsupported, "the format `\(name)` is not supported; use one of \(known)", in: "format")
    }
    return "^(\(pattern))$"
  }

  func number(_ keywords: SchemaKeywords, then next: Node) throws(GrammarError) -> Node {
    for key in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
    where keywords.hasAny(key) {
      throw keywords.error(
        .unsupported, "`\(key)` is supported for the type `integer` only; remove it", in: key)
    }
    return builder.number(then: next)
  }

  func integer(_ keywords: SchemaKeywords, then next: Node) throws(GrammarError) -> Node {
    let limit = (0..<GrammarBuilder.integerDigits).reduce(1) { power, _ in power * 10 } - 1
    let low = max(
      try keywords.bound("minimum", .up, within: limit) ?? -limit,
      try keywords.bound("exclusiveMinimum", .down, within: limit).map { $0 + 1 } ?? -limit)
    let high = min(
      try keywords.bound("maximum", .down, within: limit) ?? limit,
      try keywords.bound("exclusiveMaximum", .up, within: limit).map { $0 - 1 } ?? limit)
    guard low <= high else {
      throw keywords.error(
        .unsatisfiable, "no integer of at most 16 digits lies between `minimum` and `maximum`")
    }
    return builder.integers(low...high, then: next)
  }
}

extension SchemaKeywords {
  /// A bound of numbers as a whole number, clamped to just outside the limit.
  fileprivate func bound(
    _ key: String, _ rounding: FloatingPointRoundingRule, within limit: Int
  ) throws(GrammarError) -> Int? {
    guard let value = self[key] else { return nil }
    let outside = -limit - 1...limit + 1
    if let integer = value.integer { return integer.clamped(to: outside) }
    guard let number = value.number, !number.isNaN else {
      throw error(.invalid, "a number is expected", in: key)
    }
    // Beyond the limit a Double may have no Int.
    let clamped = min(max(number, Double(outside.lowerBound)), Double(outside.upperBound))
    return Int(clamped.rounded(rounding)).clamped(to: outside)
  }
}

extension Int {
  fileprivate func clamped(to range: ClosedRange<Int>) -> Int {
    Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
  }
}
