// SPDX-License-Identifier: Apache-2.0

/// What the cache keeps of keys besides the keys, for stages to scan.
public enum KeySketch: Sendable, Hashable {
  /// The mean of every so many keys, an element in 8 bits.
  case means(ofKeys: Int)
  /// Every key, an element in 4 bits.
  case fourBit

  /// Keys that a row of it stands for.
  public var keyCount: Int {
    switch self {
    case .means(let keyCount): keyCount
    case .fourBit: 1
    }
  }
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

/// The mean of a few keys in 8 bits: multiples of a scale in bfloat16.
public struct EightBitMean: Sendable {
  /// Keys that it stands for where nothing else is said.
  public static let defaultKeyCount = 4

  /// As scans see it.
  public let values: [Float]

  /// Rounds a mean.
  public init(_ mean: [Float]) {
    let scale = bfloat((mean.map(abs).max() ?? 0) / 127)
    values = mean.map { value in
      guard scale > 0 else { return 0 }
      return min(max((value / scale + 0.5).rounded(.down), -128), 127) * scale
    }
  }
}

/// The nearest bfloat16.
private func bfloat(_ value: Float) -> Float {
  let bits = value.bitPattern
  return Float(bitPattern: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) & 0xffff_0000)
}
