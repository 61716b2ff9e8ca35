// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPEvaluation

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

/// A number of bytes, written as 64M or 8G, in powers of 1,024.
struct ByteSize: ExpressibleByArgument {
  let count: Int

  init(count: Int) { self.count = count }

  init?(argument: String) {
    let shifts: [Character: Int] = ["K": 10, "M": 20, "G": 30, "T": 40]
    let shift = argument.last.flatMap { shifts[Character($0.uppercased())] }
    guard let number = Int(shift == nil ? Substring(argument) : argument.dropLast()), number > 0,
      number < 1 << (50 - (shift ?? 0))
    else { return nil }
    count = number << (shift ?? 0)
  }

  var defaultValueDescription: String { "\(count >> 20)M" }
}

/// Bytes as people write them, in powers of 1,000.
func byteText(_ count: Int) -> String {
  if count >= 1_000_000_000 { return decimal(Double(count) / 1e9, 2) + " GB" }
  return decimal(Double(count) / 1e6, 0) + " MB"
}
