// SPDX-License-Identifier: Apache-2.0

/// What the cache keeps of keys besides the keys, for stages to scan.
public enum KeySketch: Sendable, Hashable {
  /// Mean and variance of the keys of every chunk.
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
    let low = Self.bfloat(key.min() ?? 0)
    let scale = Self.bfloat(((key.max() ?? 0) - (key.min() ?? 0)) / 15)
    values = key.map { value in
      guard scale > 0 else { return low }
      return low + min(max((value - low) / scale + 0.5, 0), 15).rounded(.down) * scale
    }
  }

  private static func bfloat(_ value: Float) -> Float {
    let bits = value.bitPattern
    return Float(bitPattern: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) & 0xffff_0000)
  }
}
