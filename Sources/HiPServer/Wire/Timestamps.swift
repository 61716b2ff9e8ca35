// SPDX-License-Identifier: Apache-2.0

internal import Foundation

extension Date {
  /// As RFC 3339 has it, in UTC with nine digits of a second.
  var rfc3339: String {
    // Within what a calendar of four digits has.
    let seconds = timeIntervalSince1970
    let whole = seconds.isFinite ? max(0, min(seconds.rounded(.down), 253_402_300_799)) : 0
    let rest = seconds.isFinite ? max(0, min(seconds - whole, 0.999_999_999)) : 0
    let nanoseconds = Int((rest * 1e9).rounded(.down))
    let text = Date(timeIntervalSince1970: whole).formatted(.iso8601)
    let digits = "\(nanoseconds)"
    let fraction = String(repeating: "0", count: max(0, 9 - digits.count)) + digits
    return text.dropLast() + "." + fraction + "Z"
  }
}

/// How long a model stays loaded after its last request.
package enum KeepAlive: Sendable, Hashable {
  case seconds(Double)
  case forever

  /// Reads a number of seconds, or a text as Go writes durations: `5m`, `1h30m`, `-1`.
  package init?(_ text: String) {
    if let seconds = Self.decimal(text) {
      self.init(seconds: seconds)
      return
    }
    let units: [(name: String, seconds: Double)] = [
      ("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1), ("m", 60), ("h", 3600),
    ]
    var rest = Substring(text)
    let isNegative = rest.first == "-"
    if isNegative || rest.first == "+" { rest = rest.dropFirst() }
    guard !rest.isEmpty else { return nil }
    var total = 0.0
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
      guard let number = Self.decimal(digits) else { return nil }
      rest = rest.dropFirst(digits.count)
      let word = rest.prefix { !$0.isNumber }
      guard let unit = units.first(where: { $0.name == word }) else { return nil }
      total += number * unit.seconds
      rest = rest.dropFirst(word.count)
    }
    self.init(seconds: isNegative ? -total : total)
  }

  /// A negative number of seconds stands for ever, and so does one beyond a century.
  init(seconds: Double) { self = (0..<3e9).contains(seconds) ? .seconds(seconds) : .forever }

  /// A number in digits: neither "nan" nor "inf" nor one in hexadecimal.
  private static func decimal(_ text: some StringProtocol) -> Double? {
    guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) || [0x2b, 0x2d, 0x2e].contains($0) })
    else { return nil }
    return Double(text)
  }
}
