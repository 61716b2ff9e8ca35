// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Rotary position embedding in its half-split form: element i turns with element i + half.
public struct RotaryEmbedding: Sendable, Hashable {
  /// Angle per position of each turning pair, `[pairs]`, in radians.
  public let frequencies: [Double]

  /// Frequencies base^(-2i / dimensions), each divided by its factor and by `scale`.
  /// - Parameters:
  ///   - base: theta, 10,000 or more in practice.
  ///   - dimensions: how many elements of a head turn; an even number.
  ///   - scale: linear stretching of positions; 1 leaves them as they are.
  ///   - factors: per-pair divisors (`rope_freqs` of Llama 3.1); empty for none.
  public init(base: Double, dimensions: Int, scale: Double = 1, factors: [Float] = []) {
    frequencies = (0..<dimensions / 2).map { pair in
      let factor = factors.isEmpty ? 1 : Double(factors[pair])
      return pow(base, -2 * Double(pair) / Double(dimensions)) / (factor * scale)
    }
  }

  /// Cosines, then sines, of one position, `[2 * pairs]`; angles are computed in double precision.
  public func row(position: Int) -> [Double] {
    let angles = frequencies.map { Double(position) * $0 }
    return angles.map { cos($0) } + angles.map { sin($0) }
  }
}
