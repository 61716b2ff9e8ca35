// SPDX-License-Identifier: Apache-2.0

/// A regular expression over Unicode scalars.
indirect enum Pattern: Sendable {
  case set(ScalarSet)
  case sequence([Pattern])
  case choice([Pattern])
  /// Without a bound where the second count is nil.
  case repeated(Pattern, Int, Int?)

  static let anything = Pattern.repeated(.set(.all), 0, nil)
}

extension GrammarBuilder {
  /// The texts of a pattern, as they stand between the quotes of a JSON text.
  func pattern(_ pattern: Pattern, then next: Node) -> Node {
    switch pattern {
    case .set(let set): escaped(set, then: next)
    case .sequence(let parts): parts.reversed().reduce(next) { self.pattern($1, then: $0) }
    case .choice(let options): split(options.map { self.pattern($0, then: next) })
    case .repeated(let body, let least, let most):
      repeated(least, most, exit: next) { self.pattern(body, then: $0) }
    }
  }

  /// A JSON text whose content a pattern describes.
  func quoted(_ pattern: Pattern, then next: Node) -> Node {
    literal("\"", then: self.pattern(pattern, then: literal("\"", then: next)))
  }
}
