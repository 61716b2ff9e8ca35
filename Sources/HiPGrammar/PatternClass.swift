// SPDX-License-Identifier: Apache-2.0

/// Classes and escapes of regular expressions.
extension PatternReader {
  /// A class, behind its `[`.
  mutating func characterClass() throws(GrammarError) -> ScalarSet {
    let isInverted = take("^")
    var ranges: [ClosedRange<UInt32>] = []
    while let scalar = next, scalar != "]" {
      let first = try classMember()
      // Behind a class such as \d, a hyphen stands for itself.
      guard first.only != nil, next == "-", index + 1 < scalars.count, scalars[index + 1] != "]"
      else {
        ranges += first.ranges
        continue
      }
      index += 1
      let last = try classMember()
      guard let low = first.only, let high = last.only, low <= high else {
        throw error("a range of a class needs two characters in order")
      }
      ranges.append(low...high)
    }
    guard take("]") else { throw error("`]` is missing") }
    // Through the inversion, a range never holds surrogates.
    let outside = ScalarSet(ranges).inverted
    return isInverted ? outside : outside.inverted
  }

  private mutating func classMember() throws(GrammarError) -> ScalarSet {
    guard let scalar = next else { throw error("`]` is missing") }
    index += 1
    guard scalar == "\\" else { return ScalarSet([scalar]) }
    if take("b") { return ScalarSet([0x08...0x08]) }
    return try escape()
  }

  /// What follows a backslash.
  mutating func escape() throws(GrammarError) -> ScalarSet {
    guard let scalar = next else { throw error("a backslash stands at the end") }
    index += 1
    switch scalar {
    case "d": return .digits
    case "D": return ScalarSet.digits.inverted
    case "w": return .wordCharacters
    case "W": return ScalarSet.wordCharacters.inverted
    case "s": return .spaces
    case "S": return ScalarSet.spaces.inverted
    case "n": return ScalarSet([0x0a...0x0a])
    case "r": return ScalarSet([0x0d...0x0d])
    case "t": return ScalarSet([0x09...0x09])
    case "f": return ScalarSet([0x0c...0x0c])
    case "x": return try code(digits: 2)
    case "u": return try code(digits: 4)
    default:
      let isName = ScalarSet.wordCharacters.contains(scalar.value) && scalar != "_"
      guard !isName else { throw error("`\\\(scalar)` is not supported", .unsupported) }
      return ScalarSet([scalar])
    }
  }

  private mutating func code(digits: Int) throws(GrammarError) -> ScalarSet {
    var value: UInt32 = 0
    for _ in 0..<digits {
      guard let scalar = next, let digit = Character(scalar).hexDigitValue, scalar.isASCII else {
        throw error("\(digits) hexadecimal digits are expected")
      }
      value = value << 4 + UInt32(digit)
      index += 1
    }
    guard let scalar = Unicode.Scalar(value) else { throw error("half a character") }
    return ScalarSet([scalar])
  }
}

extension ScalarSet {
  /// The one scalar of a set that holds just one.
  fileprivate var only: UInt32? {
    guard ranges.count == 1, ranges[0].lowerBound == ranges[0].upperBound else { return nil }
    return ranges[0].lowerBound
  }
}
