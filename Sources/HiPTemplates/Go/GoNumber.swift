// SPDX-License-Identifier: Apache-2.0

/// Numbers as Go writes them.
enum GoNumber {
  static func hex(_ value: some BinaryInteger, _ width: Int = 0) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  /// `%v` and `%g`: few digits, with an exponent where it is large.
  static func general(_ number: Double) -> String {
    special(number) ?? sign(number) + GoDecimal(shortest: number).general()
  }

  /// As JavaScript does; what is no number is null.
  static func json(_ number: Double) -> String {
    guard number.isFinite else { return "null" }
    let decimal = GoDecimal(shortest: number)
    let size = abs(number)
    guard size != 0, size < 1e-6 || size >= 1e21 else { return sign(number) + decimal.fixed(nil) }
    return sign(number) + decimal.scientific(nil).replacing("e-0", with: "e-")
  }

  /// `%f` and `%e`.
  static func formatted(_ number: Double, verb: Character, precision: Int) -> String {
    if let text = special(number) { return text }
    let decimal = GoDecimal(exact: number)
    return sign(number)
      + (verb == "e" ? decimal.scientific(precision) : decimal.fixed(precision))
  }

  private static func sign(_ number: Double) -> String { number.sign == .minus ? "-" : "" }

  private static func special(_ number: Double) -> String? {
    if number.isNaN { return "NaN" }
    return number.isInfinite ? (number < 0 ? "-Inf" : "+Inf") : nil
  }
}

/// Decimal digits of a finite number's size, and how many of them stand before the point.
struct GoDecimal {
  private var digits: [UInt8]
  private var point: Int

  /// The fewest digits that tell the number from others.
  init(shortest number: Double) {
    let parts = "\(abs(number))".split(separator: "e")
    let exponent = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
    let mantissa = parts[0].split(separator: ".")
    digits = mantissa.joined().utf8.map { $0 - 48 }
    point = mantissa[0].utf8.count + exponent
    normalize()
  }

  /// All digits.
  init(exact number: Double) {
    let size = abs(number)
    let exponent = size.isNormal ? Int(size.exponent) - 52 : -1074
    var limbs = [UInt64(size.significandBitPattern) | (size.isNormal ? 1 << 52 : 0)]
    // Limbs of nine digits, the least first.
    limbs = [limbs[0] % 1_000_000_000, limbs[0] / 1_000_000_000]
    // As many factors at once as a limb has room for.
    let (factor, atOnce): (UInt64, Int) = exponent < 0 ? (5, 13) : (2, 30)
    for done in stride(from: 0, to: abs(exponent), by: atOnce) {
      let power = (0..<min(atOnce, abs(exponent) - done)).reduce(UInt64(1)) { power, _ in
        power * factor
      }
      var carry: UInt64 = 0
      for index in limbs.indices {
        let product = limbs[index] * power + carry
        limbs[index] = product % 1_000_000_000
        carry = product / 1_000_000_000
      }
      while carry > 0 {
        limbs.append(carry % 1_000_000_000)
        carry /= 1_000_000_000
      }
    }
    digits = limbs.reversed().flatMap { limb in
      var (rest, digits) = (limb, [UInt8](repeating: 0, count: 9))
      for place in digits.indices.reversed() {
        digits[place] = UInt8(rest % 10)
        rest /= 10
      }
      return digits
    }
    point = digits.count + min(exponent, 0)
    normalize()
  }

  private mutating func normalize() {
    let zeros = digits.prefix { $0 == 0 }.count
    digits.removeFirst(zeros)
    point -= zeros
    while digits.last == 0 { digits.removeLast() }
    if digits.isEmpty { point = 0 }
  }

  private func digit(_ index: Int) -> UInt8 {
    digits.indices.contains(index) ? digits[index] : 0
  }

  /// Rounded to some digits, ties to even.
  private func rounded(to count: Int) -> GoDecimal {
    guard count < digits.count else { return self }
    var result = self
    guard count >= 0 else {
      result.digits = []
      result.point = 0
      return result
    }
    let isOdd = count > 0 && digits[count - 1] % 2 == 1
    let isTie = digits[count] == 5 && count + 1 == digits.count
    let goesUp = isTie ? isOdd : digits[count] >= 5
    result.digits = [0] + digits[..<count]
    result.point += 1
    var place = count
    while goesUp {
      result.digits[place] += 1
      guard result.digits[place] == 10 else { break }
      result.digits[place] = 0
      place -= 1
    }
    result.normalize()
    return result
  }

  private static func text(_ digits: some Sequence<UInt8>) -> String {
    String(decoding: digits.map { $0 + 48 }, as: UTF8.self)
  }

  /// Without an exponent; nil: with as many digits as there are.
  func fixed(_ precision: Int?) -> String {
    let value = precision.map { rounded(to: point + $0) } ?? self
    let whole = value.point > 0 ? Self.text((0..<value.point).map(value.digit)) : "0"
    let count = precision ?? max(0, value.digits.count - value.point)
    guard count > 0 else { return whole }
    return whole + "." + Self.text((value.point..<value.point + count).map(value.digit))
  }

  /// With an exponent.
  func scientific(_ precision: Int?) -> String {
    let value = precision.map { rounded(to: $0 + 1) } ?? self
    let count = precision ?? max(0, value.digits.count - 1)
    let exponent = value.digits.isEmpty ? 0 : value.point - 1
    var text = Self.text([value.digit(0)])
    if count > 0 { text += "." + Self.text((1..<count + 1).map(value.digit)) }
    text += exponent < 0 ? "e-" : "e+"
    return text + (abs(exponent) < 10 ? "0" : "") + "\(abs(exponent))"
  }

  /// With an exponent where that is small or large.
  func general() -> String {
    guard !digits.isEmpty else { return "0" }
    return (-3...6).contains(point) ? fixed(nil) : scientific(nil)
  }
}
