// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// A number of tokens, written as 8192, 64K or 1M.
struct TokenSize: ExpressibleByArgument {
  let count: Int

  init?(argument: String) {
    let factor: Int
    switch argument.last {
    case "K", "k": factor = 1 << 10
    case "M", "m": factor = 1 << 20
    default: factor = 1
    }
    let digits = factor == 1 ? Substring(argument) : argument.dropLast()
    guard !digits.isEmpty, digits.allSatisfy(\.isNumber), let number = Int(digits), number > 0
    else { return nil }
    let (count, overflow) = number.multipliedReportingOverflow(by: factor)
    guard !overflow, count <= 1 << 31 - 1 else { return nil }
    self.count = count
  }
}

/// The count as people write it: 512, 32K, 1M, 200.3K.
func sizeText(_ count: Int) -> String {
  for (factor, unit) in [(1 << 20, "M"), (1 << 10, "K")] where count >= factor {
    let tenths = (count * 10 + factor / 2) / factor
    return tenths % 10 == 0 ? "\(tenths / 10)\(unit)" : "\(tenths / 10).\(tenths % 10)\(unit)"
  }
  return "\(count)"
}

/// Bytes as people write them, in powers of 1,000.
func byteText(_ count: Int) -> String {
  if count >= 1_000_000_000 { return decimal(Double(count) / 1e9, 2) + " GB" }
  return decimal(Double(count) / 1e6, 0) + " MB"
}

/// A number with so many digits behind the point.
func decimal(_ value: Double, _ digits: Int) -> String {
  guard abs(value) < 1e12 else { return "\(value)" }
  var factor = 1.0
  for _ in 0..<digits { factor *= 10 }
  let scaled = Int((value * factor).rounded())
  guard digits > 0 else { return "\(scaled)" }
  let fraction = String(abs(scaled) % Int(factor))
  let sign = scaled < 0 ? "-" : ""
  return sign + "\(abs(scaled) / Int(factor))."
    + String(repeating: "0", count: digits - fraction.count) + fraction
}
