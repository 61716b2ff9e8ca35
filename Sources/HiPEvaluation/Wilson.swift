// SPDX-License-Identifier: Apache-2.0

/// The Wilson interval of a share: where the true share lies with a confidence of 95 %.
public struct WilsonInterval: Sendable, Hashable {
  /// Its ends, from 0 to 1.
  public let low, high: Double

  /// The interval of `successes` (a fraction counts as one) out of `count`; all of 0...1 without any.
  public init(successes: Double, count: Int) {
    guard count > 0 else {
      (low, high) = (0, 1)
      return
    }
    let z = 1.959964
    let n = Double(count)
    let share = successes / n
    let center = share + z * z / (2 * n)
    let reach = z * (share * (1 - share) / n + z * z / (4 * n * n)).squareRoot()
    let scale = 1 + z * z / n
    low = max(0, (center - reach) / scale)
    high = min(1, (center + reach) / scale)
  }
}
