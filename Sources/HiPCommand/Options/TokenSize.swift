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

/// Bytes as people write them, in powers of 1,000.
func byteText(_ count: Int) -> String {
  if count >= 1_000_000_000 { return decimal(Double(count) / 1e9, 2) + " GB" }
  return decimal(Double(count) / 1e6, 0) + " MB"
}
