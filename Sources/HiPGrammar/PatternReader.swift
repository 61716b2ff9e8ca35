// SPDX-License-Identifier: Apache-2.0

/// Reads the subset of regular expressions that needs no memory: no look-around, no references
/// back.
struct PatternReader {
  static let groupDepth = 32
  static let repetitionLimit = 1_000

  let scalars: [Unicode.Scalar]
  let path: String
  var index = 0

  /// The pattern of a whole text: without anchors, anything may stand around it.
  static func read(_ text: String, at path: String) throws(GrammarError) -> Pattern {
    var reader = PatternReader(scalars: Array(text.unicodeScalars), path: path)
    let pattern = try reader.choice(depth: 0)
    guard reader.next == nil else { throw reader.error("`)` closes nothing; write `\\)`") }
    return pattern
  }

  var next: Unicode.Scalar? { index < scalars.count ? scalars[index] : nil }

  func error(_ problem: String, _ code: GrammarError.Code = .invalid) -> GrammarError {
    GrammarError(code, at: path, "the pattern, at character \(index): \(problem)")
  }

  mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard next == scalar else { return false }
    index += 1
    return true
  }

  private mutating func choice(depth: Int) throws(GrammarError) -> Pattern {
    var options = [try sequence(depth: depth)]
    while take("|") { options.append(try sequence(depth: depth)) }
    return options.count == 1 ? options[0] : .choice(options)
  }

  private mutating func sequence(depth: Int) throws(GrammarError) -> Pattern {
    let isTop = depth == 0
    var parts: [Pattern] = isTop && !take("^") ? [.anything] : []
    while let scalar = next, scalar != "|", scalar != ")" {
      if scalar == "$", isTop, index + 1 == scalars.count || scalars[index + 1] == "|" {
        index += 1
        return .sequence(parts)
      }
      parts.append(try repetition(of: try atom(depth: depth)))
    }
    if isTop { parts.append(.anything) }
    return .sequence(parts)
  }

  private mutating func atom(depth: Int) throws(GrammarError) -> Pattern {
    guard let scalar = next else { return .sequence([]) }
    index += 1
    switch scalar {
    case "(": return try group(depth: depth + 1)
    case "[": return .set(try characterClass())
    case ".": return .set(ScalarSet.lineEnds.inverted)
    case "\\": return .set(try escape())
    case "^", "$":
      throw error("anchors stand at the two ends only; move `\(scalar)` there", .unsupported)
    case "*", "+", "?", "{": throw error("`\(scalar)` repeats nothing; write `\\\(scalar)`")
    default: return .set(ScalarSet([scalar]))
    }
  }

  private mutating func group(depth: Int) throws(GrammarError) -> Pattern {
    guard depth <= Self.groupDepth else {
      throw error("groups nest deeper than \(Self.groupDepth)", .tooLarge)
    }
    if take("?"), !take(":") {
      throw error("of the groups with `(?` only `(?:` is supported", .unsupported)
    }
    let inner = try choice(depth: depth)
    guard take(")") else { throw error("`)` is missing") }
    return inner
  }

  private mutating func repetition(of body: Pattern) throws(GrammarError) -> Pattern {
    let bounds: (Int, Int?)
    if take("*") {
      bounds = (0, nil)
    } else if take("+") {
      bounds = (1, nil)
    } else if take("?") {
      bounds = (0, 1)
    } else if take("{") {
      bounds = try counts()
    } else {
      return body
    }
    // Shortest-first changes what a search finds, not which texts match.
    _ = take("?")
    return .repeated(body, bounds.0, bounds.1)
  }

  private mutating func counts() throws(GrammarError) -> (Int, Int?) {
    let least = try count()
    guard take(",") else {
      guard take("}") else { throw error("`}` is missing") }
      return (least, least)
    }
    if take("}") { return (least, nil) }
    let most = try count()
    guard take("}") else { throw error("`}` is missing") }
    guard least <= most else { throw error("{\(least),\(most)} ends before it begins") }
    return (least, most)
  }

  private mutating func count() throws(GrammarError) -> Int {
    var result: Int?
    while let scalar = next, ("0"..."9").contains(scalar) {
      let value = (result ?? 0) * 10 + Int(scalar.value - 0x30)
      guard value <= Self.repetitionLimit else {
        throw error("repetitions go up to \(Self.repetitionLimit)", .tooLarge)
      }
      result = value
      index += 1
    }
    guard let result else { throw error("a count is expected") }
    return result
  }
}
