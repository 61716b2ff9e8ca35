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
  /// What rotated elements are multiplied by (YaRN and LongRoPE make scores a little sharper so).
  public let amplitude: Double

  /// Frequencies base^(-2i / dimensions), each divided by its factor and by `scale`.
  /// - Parameters:
  ///   - base: theta, 10,000 or more in practice.
  ///   - dimensions: how many elements of a head turn; an even number.
  ///   - scale: linear stretching of positions; 1 leaves them as they are.
  ///   - factors: per-pair divisors (`rope_freqs` of Llama 3.1); empty for none.
  public init(base: Double, dimensions: Int, scale: Double = 1, factors: [Float] = []) {
    self.init(
      frequencies: (0..<dimensions / 2).map { pair in
        let factor = factors.isEmpty ? 1 : Double(factors[pair])
        return pow(base, -2 * Double(pair) / Double(dimensions)) / (factor * scale)
      })
  }

  /// Stores the frequencies of the pairs.
  public init(frequencies: [Double], amplitude: Double = 1) {
    self.frequencies = frequencies
    self.amplitude = amplitude
  }

  /// Cosines, then sines, of one position without the amplitude, `[2 * pairs]`; angles are computed in double
  /// precision.
  public func row(position: Int) -> [Double] {
    let angles = frequencies.map { Double(position) * $0 }
    return angles.map { cos($0) } + angles.map { sin($0) }
  }
}

/// How the rotation is slowed down so that a long text turns no further than the trained length did.
public enum RotaryStretch: Sendable, Hashable {
  /// All frequencies divided by the factor (position interpolation, arXiv 2306.15595).
  case linear(factor: Double)
  /// The base raised so that the slowest frequency is divided by the factor and the fastest stays
  /// (NTK-aware).
  case ntk(factor: Double)
  /// As `ntk`, with the smallest power of two as factor that brings a query's position within the
  /// trained length.
  case dynamic

  /// The factor of a query at `position`.
  func factor(position: Int, trainedLength: Int) -> Double {
    switch self {
    case .linear(let factor), .ntk(let factor): return factor
    case .dynamic:
      var factor = 1
      while position / trainedLength >= factor { factor *= 2 }
      return Double(factor)
    }
  }

  /// One past the last position whose factor is that of `position`.
  public func end(ofFactorAt position: Int, trainedLength: Int) -> Int {
    guard self == .dynamic else { return .max }
    let factor = Int(factor(position: position, trainedLength: trainedLength))
    let (end, overflow) = factor.multipliedReportingOverflow(by: trainedLength)
    return overflow ? .max : end
  }
}

extension RotaryEmbedding {
  /// The same embedding as a query at `position` has it in a model trained on `trainedLength`.
  public func stretched(
    _ stretch: RotaryStretch, position: Int, trainedLength: Int
  ) -> RotaryEmbedding {
    let factor = stretch.factor(position: position, trainedLength: trainedLength)
    guard factor != 1 else { return self }
    let last = Double(max(1, frequencies.count - 1))
    let slower = frequencies.enumerated().map { pair, frequency in
      if case .linear = stretch { return frequency / factor }
      return frequency * pow(factor, -Double(pair) / last)
    }
    return RotaryEmbedding(frequencies: slower, amplitude: amplitude)
  }
}
