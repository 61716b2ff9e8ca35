// SPDX-License-Identifier: Apache-2.0

/// How numbers are written: decimal digits, or the bits of UTF-8.
struct Numeral {
  let base: Int
  /// What is added to the first digit.
  let lead: Int
  /// What is added to each other digit.
  let follow: Int

  static let decimal = Numeral(base: 10, lead: 0x30, follow: 0x30)

  /// The characters of UTF-8 with that many bytes, from 2 to 4.
  static func utf8(_ byteCount: Int) -> Numeral {
    Numeral(base: 64, lead: [0xc0, 0xe0, 0xf0][byteCount - 2], follow: 0x80)
  }

  var rest: Numeral { Numeral(base: base, lead: follow, follow: follow) }
}

extension GrammarBuilder {
  /// The numbers of a range, all with the same number of digits; `unit` is the weight of the first.
  func numbers(_ range: ClosedRange<Int>, unit: Int, in numeral: Numeral, then next: Node) -> Node {
    let (first, low) = range.lowerBound.quotientAndRemainder(dividingBy: unit)
    let (last, high) = range.upperBound.quotientAndRemainder(dividingBy: unit)
    func branch(_ digits: ClosedRange<Int>, _ rest: ClosedRange<Int>) -> Node {
      let tail =
        unit == 1
        ? next : numbers(rest, unit: unit / numeral.base, in: numeral.rest, then: next)
      return bytes(ByteSet(digits.map { UInt8(numeral.lead + $0) }), then: tail)
    }
    if first == last { return branch(first...last, low...high) }
    // The first and the last digit may bound the rest; those between do not.
    let innerFirst = low == 0 ? first : first + 1
    let innerLast = high == unit - 1 ? last : last - 1
    var options: [Node] = []
    if low != 0 { options.append(branch(first...first, low...unit - 1)) }
    if innerFirst <= innerLast { options.append(branch(innerFirst...innerLast, 0...unit - 1)) }
    if high != unit - 1 { options.append(branch(last...last, 0...high)) }
    return split(options)
  }

  /// The decimal numbers of a range without leading zeros; both ends within 18 digits.
  func integers(_ range: ClosedRange<Int>, then next: Node) -> Node {
    var options: [Node] = []
    if range.lowerBound < 0 {
      let magnitudes = max(1, -range.upperBound)...(-range.lowerBound)
      options.append(literal("-", then: naturals(magnitudes, then: next)))
    }
    if range.upperBound >= 0 {
      options.append(naturals(max(0, range.lowerBound)...range.upperBound, then: next))
    }
    return split(options)
  }

  private func naturals(_ range: ClosedRange<Int>, then next: Node) -> Node {
    var options: [Node] = []
    var unit = 1
    while unit <= range.upperBound || unit == 1 {
      let low = max(range.lowerBound, unit == 1 ? 0 : unit)
      let high = min(range.upperBound, unit * 10 - 1)
      if low <= high {
        options.append(numbers(low...high, unit: unit, in: .decimal, then: next))
      }
      unit *= 10
    }
    return split(options)
  }
}
