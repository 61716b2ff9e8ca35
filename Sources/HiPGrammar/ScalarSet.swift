// SPDX-License-Identifier: Apache-2.0

/// A set of Unicode scalars, as ordered ranges that do not touch.
struct ScalarSet: Hashable, Sendable {
  private(set) var ranges: [ClosedRange<UInt32>]

  init(_ ranges: [ClosedRange<UInt32>]) {
    self.ranges = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = self.ranges.last, range.lowerBound <= last.upperBound &+ 1 {
        self.ranges[self.ranges.count - 1] =
          last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        self.ranges.append(range)
      }
    }
  }

  init(_ scalars: some Sequence<Unicode.Scalar>) { self.init(scalars.map { $0.value...$0.value }) }

  static let all = ScalarSet([0...0xd7ff, 0xe000...0x10ffff])
  /// What a JSON text holds without an escape.
  static let unescaped = ScalarSet([0...0x1f, 0x22...0x22, 0x5c...0x5c]).inverted
  static let digits = ScalarSet([0x30...0x39])
  static let wordCharacters = ScalarSet([0x30...0x39, 0x41...0x5a, 0x5f...0x5f, 0x61...0x7a])
  static let spaces = ScalarSet([
    0x09...0x0d, 0x20...0x20, 0xa0...0xa0, 0x1680...0x1680, 0x2000...0x200a, 0x2028...0x2029,
    0x202f...0x202f, 0x205f...0x205f, 0x3000...0x3000, 0xfeff...0xfeff,
  ])
  static let lineEnds = ScalarSet([0x0a...0x0a, 0x0d...0x0d, 0x2028...0x2029])

  /// All other scalars; surrogates are none.
  var inverted: ScalarSet {
    var result: [ClosedRange<UInt32>] = []
    var next: UInt32 = 0
    for range in ranges + [0x110000...0x110000] {
      if next < range.lowerBound { result.append(next...range.lowerBound - 1) }
      next = range.upperBound + 1
    }
    return ScalarSet(result.flatMap(Self.withoutSurrogates))
  }

  func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(ranges + other.ranges) }

  func subtracting(_ other: ScalarSet) -> ScalarSet { inverted.union(other).inverted }

  func contains(_ value: UInt32) -> Bool { ranges.contains { $0.contains(value) } }

  private static func withoutSurrogates(_ range: ClosedRange<UInt32>) -> [ClosedRange<UInt32>] {
    [0...0xd7ff, 0xe000...0x10ffff].filter { $0.overlaps(range) }.map { range.clamped(to: $0) }
  }
}

extension GrammarBuilder {
  /// One character of the set, in UTF-8.
  func utf8(_ set: ScalarSet, then next: Node) -> Node {
    var ascii = ByteSet(EmptyCollection())
    var options: [Node] = []
    for range in set.ranges {
      for value in range.lowerBound..<max(range.lowerBound, min(0x80, range.upperBound + 1)) {
        ascii.insert(UInt8(value))
      }
      for (index, span) in [0x80...0x7ff, 0x800...0xffff, 0x10000...0x10ffff].enumerated() {
        let range = Int(range.lowerBound)...Int(range.upperBound)
        guard range.overlaps(span) else { continue }
        let unit = 1 << (6 * (index + 1))
        options.append(
          numbers(range.clamped(to: span), unit: unit, in: .utf8(index + 2), then: next))
      }
    }
    return split([bytes(ascii, then: next)] + options)
  }

  /// One character of the set inside a JSON text, escaped where it must be.
  ///
  /// Control characters without a short escape are left out.
  func escaped(_ set: ScalarSet, then next: Node) -> Node {
    let escapes = JSONEscape.short.filter { set.contains(UInt32($0.key)) }.map(\.value)
    let raw = set.subtracting(ScalarSet.unescaped.inverted)
    return split([
      utf8(raw, then: next), literal("\\", then: bytes(ByteSet(escapes), then: next)),
    ])
  }
}
