// SPDX-License-Identifier: Apache-2.0

/// The count as people write it: 512, 32K, 1M, 200.3K.
public func sizeText(_ count: Int) -> String {
  for (factor, unit) in [(1 << 20, "M"), (1 << 10, "K")] where count >= factor {
    let tenths = (count * 10 + factor / 2) / factor
    return tenths % 10 == 0 ? "\(tenths / 10)\(unit)" : "\(tenths / 10).\(tenths % 10)\(unit)"
  }
  return "\(count)"
}

/// A number with so many digits behind the point.
public func decimal(_ value: Double, _ digits: Int) -> String {
  guard value.isFinite, abs(value) < 1e12 else { return "\(value)" }
  var factor = 1.0
  for _ in 0..<digits { factor *= 10 }
  let scaled = Int((value * factor).rounded())
  guard digits > 0 else { return "\(scaled)" }
  let fraction = String(abs(scaled) % Int(factor))
  let sign = scaled < 0 ? "-" : ""
  return sign + "\(abs(scaled) / Int(factor))."
    + String(repeating: "0", count: digits - fraction.count) + fraction
}

/// A share in whole per cent.
func percent(_ share: Double) -> String { decimal(share * 100, 0) + " %" }

/// The name of a policy without the folders of its file.
func shortName(_ policy: String) -> String {
  policy.split(separator: "/").last.map(String.init) ?? policy
}
