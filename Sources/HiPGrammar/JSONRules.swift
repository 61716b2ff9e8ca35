// SPDX-License-Identifier: Apache-2.0

/// The parts of JSON that need no schema, each a rule that a grammar holds once.
extension GrammarBuilder {
  /// How deep values without a schema nest.
  static let freeDepth = 32
  static let integerDigits = 16

  private func rule(_ name: String, _ start: () -> Node) -> Int32 {
    if let known = named[name] { return known }
    let rule = declare(path: "#")
    named[name] = rule
    define(rule, as: start())
    return rule
  }

  /// Nothing, a blank, or a line end and up to 20 blanks.
  func spaced(then next: Node) -> Node {
    let space = rule("space") {
      let blank = ByteSet(0x20)
      let indent = repeated(0, 20, exit: Self.end) { bytes(blank, then: $0) }
      return split([Self.end, bytes(blank, then: Self.end), literal("\n", then: indent)])
    }
    return call(space, then: next)
  }

  func comma(then next: Node) -> Node { literal(",", then: spaced(then: next)) }

  func colon(then next: Node) -> Node { literal(":", then: spaced(then: next)) }

  /// A character of a text, in any of its spellings.
  private func characterInline(then next: Node) -> Node {
    let hex = ByteSet.hexDigits
    func digits(_ count: Int) -> Node {
      repeated(count, count, exit: next) { bytes(hex, then: $0) }
    }
    // Half of a surrogate pair stands for no character: D is followed by 0 to 7 only.
    let code = split([
      bytes(ByteSet("0123456789abcefABCEF".utf8), then: digits(3)),
      bytes(ByteSet("dD".utf8), then: bytes(ByteSet("01234567".utf8), then: digits(2))),
    ])
    let escape = split([
      bytes(ByteSet("\"\\/bfnrt".utf8), then: next), literal("u", then: code),
    ])
    return split([utf8(.unescaped, then: next), literal("\\", then: escape)])
  }

  func character(then next: Node) -> Node {
    call(rule("character") { characterInline(then: Self.end) }, then: next)
  }

  func string(then next: Node) -> Node {
    let string = rule("string") {
      let quote = literal("\"", then: Self.end)
      return literal("\"", then: loop(exit: quote) { characterInline(then: $0) })
    }
    return call(string, then: next)
  }

  func number(then next: Node) -> Node {
    let number = rule("number") {
      let limit = (0..<Self.integerDigits).reduce(1) { power, _ in power * 10 } - 1
      let fraction = literal(
        ".",
        then: repeated(1, 16, exit: exponent(then: Self.end)) { bytes(.digits, then: $0) })
      let rest = split([exponent(then: Self.end), fraction])
      let magnitude = integers(0...limit, then: rest)
      return split([magnitude, literal("-", then: magnitude)])
    }
    return call(number, then: next)
  }

  /// An exponent or nothing; up to 289, so that every number is finite.
  private func exponent(then next: Node) -> Node {
    let digit = bytes(.digits, then: next)
    let two = bytes(.digits, then: digit)
    let large = split([
      literal("1", then: two), literal("2", then: bytes(ByteSet(0x30...0x38), then: digit)),
    ])
    let small = split([digit, two])
    let negative = literal("-", then: split([small, bytes(.digits, then: two)]))
    let positive = split([small, large])
    let sign = split([positive, literal("+", then: positive), negative])
    return split([next, bytes(ByteSet("eE".utf8), then: sign)])
  }

  func flag(then next: Node) -> Node {
    split([literal("true", then: next), literal("false", then: next)])
  }

  func null(then next: Node) -> Node { literal("null", then: next) }

  /// An object with any names and values of one rule.
  func freeObject(of value: Int32, then next: Node) -> Node {
    let close = literal("}", then: next)
    let rest = loop(exit: spaced(then: close)) {
      comma(then: string(then: colon(then: call(value, then: $0))))
    }
    // The first member follows no comma, and leads into the same rest.
    let member = string(then: colon(then: call(value, then: rest)))
    return literal("{", then: spaced(then: split([member, close])))
  }

  private func freeArray(of value: Int32, then next: Node) -> Node {
    let close = literal("]", then: next)
    let rest = loop(exit: spaced(then: close)) { comma(then: call(value, then: $0)) }
    return literal("[", then: spaced(then: split([call(value, then: rest), close])))
  }

  /// The rule of all values, within so many levels.
  private func freeValue(levels: Int) -> Int32 {
    rule("value\(levels)") {
      var options = [
        string(then: Self.end), number(then: Self.end), flag(then: Self.end), null(then: Self.end),
      ]
      if levels > 0 {
        let inner = freeValue(levels: levels - 1)
        options += [freeObject(of: inner, then: Self.end), freeArray(of: inner, then: Self.end)]
      }
      return split(options)
    }
  }

  var anyValueRule: Int32 { freeValue(levels: Self.freeDepth) }

  func anyObject(then next: Node) -> Node {
    call(
      rule("object") { freeObject(of: freeValue(levels: Self.freeDepth - 1), then: Self.end) },
      then: next)
  }
}
