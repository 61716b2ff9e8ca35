// SPDX-License-Identifier: Apache-2.0

/// A text that remembers which of its characters came from messages rather than from the template: those
/// are data, whatever they look like.
public struct TemplateText: Sendable, Hashable {
  var scalars: [Unicode.Scalar]
  /// Whether each character is data.
  var isData: [Bool]

  /// A text of which all is data, or nothing.
  public init(_ text: some StringProtocol, isData: Bool = false) {
    scalars = Array(text.unicodeScalars)
    self.isData = .init(repeating: isData, count: scalars.count)
  }

  init(scalars: [Unicode.Scalar] = [], isData: [Bool] = []) {
    self.scalars = scalars
    self.isData = isData
  }

  /// The text without its marks.
  public var string: String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    return String(view)
  }

  /// Neighbouring characters of one kind, in order.
  public var runs: [(text: String, isData: Bool)] {
    var runs: [(text: String, isData: Bool)] = []
    var start = 0
    while start < scalars.count {
      var end = start + 1
      while end < scalars.count, isData[end] == isData[start] { end += 1 }
      runs.append((self[start..<end].string, isData[start]))
      start = end
    }
    return runs
  }

  /// What stands before and behind the first occurrence of another text; nil where there is none.
  public func cut(at other: String) -> (before: TemplateText, after: TemplateText)? {
    let sought = Array(other.unicodeScalars)
    guard let place = firstIndex(of: sought) else { return nil }
    return (self[0..<place], self[place + sought.count..<count])
  }

  var count: Int { scalars.count }
  var isEmpty: Bool { scalars.isEmpty }

  subscript(range: Range<Int>) -> TemplateText {
    TemplateText(scalars: Array(scalars[range]), isData: Array(isData[range]))
  }

  /// Beyond this no operation of an evaluation appends; who is given such a text throws.
  @TaskLocal static var most = Int.max

  /// Throws where a list grows longer than a template's values may be, before it takes the memory.
  static func permit(_ count: Int) throws(TemplateError) {
    guard count <= most / 4 else {
      throw TemplateError(.limit, "a list of the template grows longer than \(most / 4) values")
    }
  }

  static func += (left: inout TemplateText, right: TemplateText) {
    if left.count <= most { left.append(right) }
  }

  mutating func append(_ other: TemplateText) {
    scalars += other.scalars
    isData += other.isData
  }

  /// A text in which each character is replaced by others of its kind.
  func mapped(_ change: (String) -> String) -> TemplateText {
    var result = TemplateText()
    for run in runs { result += TemplateText(change(run.text), isData: run.isData) }
    return result
  }

  /// Where another text begins, from `start` on.
  func firstIndex(of other: [Unicode.Scalar], from start: Int = 0) -> Int? {
    guard !other.isEmpty else { return start <= count ? start : nil }
    guard count - other.count >= start else { return nil }
    // Knuth, Morris and Pratt: linear whatever the texts.
    var borders = [0]
    func extended(_ matched: Int, by scalar: Unicode.Scalar) -> Int {
      var matched = matched
      while matched > 0, other[matched] != scalar { matched = borders[matched - 1] }
      return other[matched] == scalar ? matched + 1 : 0
    }
    for scalar in other.dropFirst() {
      borders.append(extended(borders[borders.count - 1], by: scalar))
    }
    var matched = 0
    for at in start..<count {
      matched = extended(matched, by: scalars[at])
      if matched == other.count { return at + 1 - matched }
    }
    return nil
  }

  func trimmed(_ characters: Set<Unicode.Scalar>?, start: Bool = true, end: Bool = true)
    -> TemplateText
  {
    func goes(_ scalar: Unicode.Scalar) -> Bool {
      characters?.contains(scalar) ?? Self.isSpace(scalar)
    }
    var (low, high) = (0, count)
    while start, low < high, goes(scalars[low]) { low += 1 }
    while end, low < high, goes(scalars[high - 1]) { high -= 1 }
    return self[low..<high]
  }

  /// White space as Python has it.
  static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.isWhitespace || (0x1c...0x1f).contains(scalar.value)
  }

  /// The parts between white space, or between another text; `limit` cuts at most, negative: all.
  func split(_ separator: TemplateText?, limit: Int) throws(TemplateError) -> [TemplateText] {
    var parts: [TemplateText] = []
    guard let separator else {
      var index = 0
      while true {
        while index < count, Self.isSpace(scalars[index]) { index += 1 }
        guard index < count else { return parts }
        if limit >= 0, parts.count == limit {
          return parts + [self[index..<count].trimmed(nil, start: false)]
        }
        let start = index
        while index < count, !Self.isSpace(scalars[index]) { index += 1 }
        parts.append(self[start..<index])
        try Self.permit(parts.count)
      }
    }
    var start = 0
    while limit < 0 || parts.count < limit,
      let found = firstIndex(of: separator.scalars, from: start)
    {
      parts.append(self[start..<found])
      try Self.permit(parts.count)
      start = found + separator.count
    }
    return parts + [self[start..<count]]
  }

  func replacing(
    _ old: TemplateText, with new: TemplateText, limit: Int = -1
  ) throws(TemplateError) -> TemplateText {
    guard !old.isEmpty else { return self }
    var result = TemplateText()
    for (index, part) in try split(old, limit: limit).enumerated() {
      if index > 0 { result += new }
      result += part
    }
    return result
  }
}
