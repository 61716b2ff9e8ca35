// SPDX-License-Identifier: Apache-2.0

/// What the cache keeps of keys besides the keys, for stages to scan.
public enum KeySketch: Sendable, Hashable {
  /// Mean and variance of the keys of every chunk, an element in 8 bits.
  case moments(chunkSize: Int)
  /// Every key, an element in 4 bits.
  case fourBit
}

/// A key in 4 bits: multiples of a scale above a minimum, both in bfloat16.
public struct FourBitKey: Sendable {
  /// The key as scans see it.
  public let values: [Float]

  /// Rounds a key.
  public init(_ key: [Float]) {
    let low = bfloat(key.min() ?? 0)
    let scale = bfloat(((key.max() ?? 0) - (key.min() ?? 0)) / 15)
    values = key.map { value in
      guard scale > 0 else { return low }
      return low + min(max((value - low) / scale + 0.5, 0), 15).rounded(.down) * scale
    }
  }

}

/// The moments of a chunk in 8 bits: multiples of a scale in bfloat16, one for means, one for
/// variances.
public struct EightBitMoments: Sendable {
  /// As scans see them.
  public let mean, variance: [Float]

  /// Rounds the moments of a chunk.
  public init(mean: [Float], variance: [Float]) {
    self.mean = Self.rounded(mean, steps: 127, range: -128...127)
    self.variance = Self.rounded(variance, steps: 255, range: 0...255)
  }

  private static func rounded(
    _ values: [Float], steps: Float, range: ClosedRange<Float>
  ) -> [Float] {
    let scale = bfloat((values.map(abs).max() ?? 0) / steps)
    return values.map { value in
      guard scale > 0 else { return 0 }
      return min(max((value / scale + 0.5).rounded(.down), range.lowerBound), range.upperBound)
        * scale
    }
  }
}

/// The nearest bfloat16.
private func bfloat(_ value: Float) -> Float {
  let bits = value.bitPattern
  return Float(bitPattern: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) & 0xffff_0000)
}
