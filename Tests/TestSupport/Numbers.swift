// SPDX-License-Identifier: Apache-2.0

public import Testing

/// What lengths are divided by in debug builds, which take 20 to 50 times as long.
public let debugDivisor = _isDebugAssertConfiguration() ? 30 : 1

/// Pseudo-random numbers that are the same on every machine.
public struct SeededNumbers {
  private var state: UInt64

  /// Starts the sequence of `seed`.
  public init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }

  /// A whole number in 0 ..< `bound`.
  public mutating func index(below bound: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(bound))
  }

  /// About normal: the sum of four uniform numbers.
  public mutating func normal() -> Float {
    (0..<4).reduce(0) { sum, _ in sum + Float(index(below: 20001)) / 10000 - 1 } * 0.87
  }

  /// `count` about normal numbers, rounded so that 16-bit formats hold them exactly.
  public mutating func normals(_ count: Int) -> [Float] {
    (0..<count).map { _ in (normal() * 64).rounded() / 64 }
  }
}

/// Records an issue unless all values lie within `tolerance`; it names the worst.
public func expectClose(
  _ values: [Float], _ expected: [Double], within tolerance: Double,
  _ what: String = "", sourceLocation: SourceLocation = #_sourceLocation
) {
  guard values.count == expected.count else {
    Issue.record(
      "\(what): \(values.count) values, expected \(expected.count)", sourceLocation: sourceLocation)
    return
  }
  var worst = (index: 0, error: -1.0)
  for index in values.indices {
    let error = abs(Double(values[index]) - expected[index])
    // A NaN is the worst of all.
    if !(error <= worst.error) { worst = (index, error) }
  }
  if !(worst.error <= tolerance) {
    Issue.record(
      """
      \(what): worst at \(worst.index): \(values[worst.index]), expected \(expected[worst.index]), \
      error \(worst.error) above \(tolerance)
      """, sourceLocation: sourceLocation)
  }
}
