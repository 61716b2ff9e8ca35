// SPDX-License-Identifier: Apache-2.0

/// A regular expression as tokenizers use them to cut texts into words.
///
/// Alternatives, groups, sets of characters, properties, lookaheads and greedy repetition; what is repeated without
/// bound must be a single character. A match that takes more steps than a small multiple of the text's length counts as
/// none.
struct SplitPattern: Sendable {
  indirect enum Node: Sendable, Hashable {
    /// One character of a set, so many times at least and at most.
    case characters(ScalarSet, ClosedRange<Int>)
    /// The first of several that lets the rest match, or none of them where that is allowed.
    case group([[Node]], isOptional: Bool)
    case lookahead([[Node]], isNegative: Bool)
    case end
  }

  private let alternatives: [[Node]]

  /// Reads a pattern.
  /// - Throws: `TokenizerError` when it has what is not supported.
  init(_ pattern: String) throws(TokenizerError) {
    guard pattern.utf8.count <= 1 << 16 else {
      throw TokenizerError(
        .invalid, "the pattern that cuts texts into words is longer than 65536 bytes")
    }
    var parser = PatternParser(pattern)
    alternatives = Self.compiled(try parser.alternatives())
    guard parser.isAtEnd else { throw parser.error("\")\" closes nothing") }
  }

  private static func compiled(_ alternatives: [[Node]]) -> [[Node]] {
    alternatives.map { nodes in
      nodes.map { node in
        switch node {
        case .characters(let set, let count): .characters(set.compiled, count)
        case .group(let inner, let isOptional): .group(compiled(inner), isOptional: isOptional)
        case .lookahead(let inner, let isNegative):
          .lookahead(compiled(inner), isNegative: isNegative)
        case .end: .end
        }
      }
    }
  }

  /// Cuts a text where the pattern matches: matches, and what lies between them.
  func forEachPart(_ text: PatternText, _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
    var start = range.lowerBound
    var index = start
    while index < range.upperBound {
      let end = match(text, index, range.upperBound)
      guard let end, end > index else {
        index += 1
        continue
      }
      if start < index { body(start..<index) }
      body(index..<end)
      index = end
      start = end
    }
    if start < range.upperBound { body(start..<range.upperBound) }
  }

  private func match(_ text: PatternText, _ start: Int, _ limit: Int) -> Int? {
    var matcher = Matcher(text: text, limit: limit, steps: 100_000 + 16 * (limit - start))
    for nodes in alternatives {
      if let end = matcher.match(nodes[...], start, { matcher, end in end }) { return end }
    }
    return nil
  }
}

/// One search for a match.
private struct Matcher {
  let text: PatternText
  let limit: Int
  /// Steps that are left.
  var steps: Int

  /// The end of the first way in which `nodes` match and `rest` accepts where they end.
  mutating func match(
    _ nodes: ArraySlice<SplitPattern.Node>, _ start: Int, _ rest: (inout Matcher, Int) -> Int?
  ) -> Int? {
    steps -= 1
    guard steps > 0 else { return nil }
    guard let node = nodes.first else { return rest(&self, start) }
    let others = nodes.dropFirst()
    switch node {
    case .characters(let set, let count):
      var end = start
      while end < limit, end - start < count.upperBound, set.contains(text.characters[end]) {
        end += 1
      }
      steps -= (end - start) / 8
      while end - start >= count.lowerBound {
        if let found = match(others, end, rest) { return found }
        guard steps > 0 else { return nil }
        end -= 1
      }
      return nil
    case .group(let alternatives, let isOptional):
      for group in alternatives {
        let found = match(group[...], start) { $0.match(others, $1, rest) }
        if let found { return found }
      }
      return isOptional ? match(others, start, rest) : nil
    case .lookahead(let alternatives, let isNegative):
      var isThere = false
      for nodes in alternatives where !isThere { isThere = match(nodes[...], start) { $1 } != nil }
      return isThere != isNegative ? match(others, start, rest) : nil
    case .end: return start == limit ? match(others, start, rest) : nil
    }
  }
}

/// A text in characters, for several patterns.
struct PatternText {
  let characters: [ScalarSet.Character]
  /// Where each character begins in the bytes, and where they end.
  let places: [Int]

  private static let ascii = (0..<128).map { ScalarSet.Character(Unicode.Scalar(UInt8($0))) }

  init(_ bytes: [UInt8]) {
    var characters: [ScalarSet.Character] = []
    var places: [Int] = []
    characters.reserveCapacity(bytes.count)
    places.reserveCapacity(bytes.count + 1)
    var index = 0
    while index < bytes.count {
      places.append(index)
      let first = bytes[index]
      if first < 0x80 {
        characters.append(Self.ascii[Int(first)])
        index += 1
        continue
      }
      let end = min(bytes.count, index + (first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4))
      var value = UInt32(first) & (0x7f >> UInt32(end - index))
      for byte in bytes[(index + 1)..<end] { value = value << 6 | UInt32(byte & 0x3f) }
      characters.append(
        Unicode.Scalar(value).map { ScalarSet.Character($0) } ?? .init(invalid: first))
      index = end
    }
    places.append(bytes.count)
    self.characters = characters
    self.places = places
  }
}

/// Reads patterns.
private struct PatternParser {
  private let pattern: [Unicode.Scalar]
  private var index = 0
  private var ignoresCase = false
  private var depth = 0

  init(_ pattern: String) { self.pattern = Array(pattern.unicodeScalars) }

  var isAtEnd: Bool { index >= pattern.count }

  func error(_ problem: String) -> TokenizerError {
    TokenizerError(
      .invalid,
      "the pattern that cuts texts into words is not supported at character \(index): \(problem)")
  }

  private func peek(_ offset: Int = 0) -> Unicode.Scalar? {
    index + offset < pattern.count ? pattern[index + offset] : nil
  }

  private mutating func take(_ text: String) -> Bool {
    let scalars = Array(text.unicodeScalars)
    guard pattern[min(index, pattern.count)...].starts(with: scalars) else { return false }
    index += scalars.count
    return true
  }

  mutating func alternatives() throws(TokenizerError) -> [[SplitPattern.Node]] {
    depth += 1
    defer { depth -= 1 }
    guard depth < 50 else { throw error("it is nested too deeply") }
    var result: [[SplitPattern.Node]] = [[]]
    while let scalar = peek(), scalar != ")" {
      if take("|") {
        result.append([])
      } else {
        result[result.count - 1].append(try repeated())
      }
    }
    return result
  }

  private mutating func repeated() throws(TokenizerError) -> SplitPattern.Node {
    let node = try atom()
    var count = 1...1
    if take("?") {
      count = 0...1
    } else if take("*") {
      count = 0...Int.max
    } else if take("+") {
      count = 1...Int.max
    } else if take("{") {
      count = try bounds()
    } else {
      return node
    }
    // Possessive repetition gives nothing back; where these patterns have it, giving back would not help.
    if !take("+"), peek() == "?" { throw error("lazy repetition") }
    switch node {
    case .characters(let set, 1...1): return .characters(set, count)
    case .group(let alternatives, false) where count == 0...1:
      return .group(alternatives, isOptional: true)
    case .group(let alternatives, false):
      guard alternatives.count == 1, let set = Self.character(alternatives[0]) else {
        throw error("more than one character repeated")
      }
      return .characters(set, count)
    default: throw error("what is repeated here")
    }
  }

  /// The one character that a lookahead and what follows it are together.
  private static func character(_ nodes: [SplitPattern.Node]) -> ScalarSet? {
    var result: ScalarSet?
    for (index, node) in nodes.enumerated() {
      let set: ScalarSet
      switch node {
      case .characters(let own, 1...1) where index + 1 == nodes.count: set = own
      case .group(let alternatives, false)
      where index + 1 == nodes.count && alternatives.count == 1:
        guard let own = character(alternatives[0]) else { return nil }
        set = own
      case .lookahead(let alternatives, let isNegative) where alternatives.count == 1:
        guard index + 1 < nodes.count, let own = character(alternatives[0]) else { return nil }
        set = isNegative ? own.inverted : own
      default: return nil
      }
      result = result.map { $0.intersection(set) } ?? set
    }
    return result
  }

  private mutating func number() -> Int? {
    var value: Int?
    while let scalar = peek(), let digit = Int(String(scalar)), scalar.isASCII {
      value = min((value ?? 0) * 10 + digit, 1 << 20)
      index += 1
    }
    return value
  }

  private mutating func bounds() throws(TokenizerError) -> ClosedRange<Int> {
    let least = number() ?? 0
    var most = least
    if take(",") { most = number() ?? Int.max }
    guard take("}"), least <= most else { throw error("numbers in braces") }
    return least...most
  }

  private mutating func atom() throws(TokenizerError) -> SplitPattern.Node {
    guard let scalar = peek() else { throw error("it ends too early") }
    switch scalar {
    case "(": return try group()
    case "[": return .characters(try bracketed(), 1...1)
    case "$":
      index += 1
      return .end
    case ".":
      index += 1
      return .characters(ScalarSet.range(0xa...0xa).inverted, 1...1)
    case "\\": return .characters(cased(try escaped()), 1...1)
    case "*", "+", "?", "^": throw error("\"\(scalar)\"")
    default:
      index += 1
      return .characters(cased(.range(scalar.value...scalar.value)), 1...1)
    }
  }

  private func cased(_ set: ScalarSet) -> ScalarSet { ignoresCase ? set.ignoringCase : set }

  private mutating func group() throws(TokenizerError) -> SplitPattern.Node {
    let outer = ignoresCase
    defer { ignoresCase = outer }
    index += 1
    var isLookahead = false
    var isNegative = false
    if take("?=") {
      isLookahead = true
    } else if take("?!") {
      isLookahead = true
      isNegative = true
    } else if take("?i:") {
      ignoresCase = true
    } else if !take("?:"), peek() == "?" {
      throw error("this kind of group")
    }
    let inner = try alternatives()
    guard take(")") else { throw error("\"(\" is not closed") }
    return isLookahead
      ? .lookahead(inner, isNegative: isNegative) : .group(inner, isOptional: false)
  }

  /// The set behind a backslash.
  private mutating func escaped() throws(TokenizerError) -> ScalarSet {
    index += 1
    guard let scalar = peek() else { throw error("it ends with a backslash") }
    index += 1
    func one(_ value: UInt32) -> ScalarSet { .range(value...value) }
    switch scalar {
    case "s": return .whiteSpace
    case "S": return ScalarSet.whiteSpace.inverted
    case "d": return try property("Nd")
    case "D": return try property("Nd").inverted
    case "r": return one(0xd)
    case "n": return one(0xa)
    case "t": return one(0x9)
    case "f": return one(0xc)
    case "v": return one(0xb)
    case "p", "P":
      guard take("{"), let end = pattern[index...].firstIndex(of: "}") else {
        throw error("a property without braces")
      }
      var name = String.UnicodeScalarView()
      name.append(contentsOf: pattern[index..<end])
      let isInverted = name.first == "^"
      let set = try property(String(name.drop { $0 == "^" }))
      index = end + 1
      return (scalar == "P") != isInverted ? set.inverted : set
    case "x", "u":
      let digits =
        take("{") ? pattern[index...].firstIndex(of: "}") ?? index : index + (scalar == "x" ? 2 : 4)
      guard digits <= pattern.count else { throw error("a number of a character") }
      var text = String.UnicodeScalarView()
      text.append(contentsOf: pattern[index..<digits])
      guard let value = UInt32(String(text), radix: 16), Unicode.Scalar(value) != nil else {
        throw error("a number of a character")
      }
      index = digits < pattern.count && pattern[digits] == "}" ? digits + 1 : digits
      return one(value)
    default:
      guard !scalar.properties.isAlphabetic else { throw error("\"\\\(scalar)\"") }
      return one(scalar.value)
    }
  }

  private func property(_ name: String) throws(TokenizerError) -> ScalarSet {
    guard let set = ScalarSet.property(name) else { throw error("the property \"\(name)\"") }
    return set
  }

  /// A set in brackets.
  private mutating func bracketed() throws(TokenizerError) -> ScalarSet {
    depth += 1
    defer { depth -= 1 }
    guard depth < 50 else { throw error("it is nested too deeply") }
    index += 1
    let isInverted = take("^")
    var set: ScalarSet?
    var required: ScalarSet?
    func add(_ other: ScalarSet) { set = set.map { $0.union(other) } ?? other }
    var isFirst = true
    while let scalar = peek(), scalar != "]" || isFirst {
      isFirst = false
      if take("&&") {
        let other = try bracketedRest()
        required = required.map { $0.intersection(other) } ?? other
        break
      }
      if scalar == "[" {
        add(try bracketed())
        continue
      }
      let isEscaped = scalar == "\\"
      let first: ScalarSet
      if isEscaped {
        first = try escaped()
      } else {
        index += 1
        first = .range(scalar.value...scalar.value)
      }
      // A range of characters; a hyphen at the end stands for itself.
      guard peek() == "-", let last = peek(1), last != "]",
        let low = first.single
      else {
        add(first)
        continue
      }
      index += 1
      let high: UInt32
      if last == "\\" {
        guard let value = try escaped().single else { throw error("a range") }
        high = value
      } else {
        index += 1
        high = last.value
      }
      guard low <= high else { throw error("a range that ends before it begins") }
      add(.range(low...high))
    }
    guard take("]"), var result = set else { throw error("\"[\" is not closed") }
    if let required { result = result.intersection(required) }
    result = cased(result)
    return isInverted ? result.inverted : result
  }

  /// What follows `&&` in brackets.
  private mutating func bracketedRest() throws(TokenizerError) -> ScalarSet {
    guard peek() == "[" else { throw error("\"&&\" without brackets behind it") }
    return try bracketed()
  }
}
