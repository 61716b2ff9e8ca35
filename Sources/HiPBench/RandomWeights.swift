// SPDX-License-Identifier: Apache-2.0

public import HiPModelFiles
public import HiPTensors

/// Weights of any shape that mean nothing, made in memory: for measuring speed.
///
/// Every weight has memory of its own, so that streaming them costs what those of a model cost.
public struct RandomWeights: WeightSource {
  /// What errors call it.
  public let path: String
  /// How matrices are stored; vectors are float32.
  public let element: ElementType
  private let isTied: Bool

  /// Weights of a shape.
  public init(_ shape: ModelShape, element: ElementType) {
    path = "\(shape.rawValue) with random weights"
    self.element = element
    isTied = shape.isTied
  }

  /// Any name will do.
  public var names: [String] { [] }

  /// Everything is there, but biases, and an output matrix where the embedding serves as one.
  public func hasWeight(named name: String) -> Bool {
    !name.hasSuffix(".bias") && !(isTied && name == "output.weight")
  }

  /// Makes the weight.
  public func weight(named name: String, rows: Int, columns: Int) throws(FileError) -> Weight {
    let element = rows == 1 ? .float32 : element
    guard columns % element.blockSize == 0 else {
      throw FileError(
        path: path,
        problem: "rows of \(columns) elements do not fill the blocks of \(element.rawValue)")
    }
    let byteCount = rows * element.byteCount(of: columns)
    let memory = unsafe try MappedFile(anonymous: path, byteCount: byteCount) { bytes in
      unsafe Self.fill(
        bytes, element,
        seed: UInt64(truncatingIfNeeded: name.utf8.reduce(7) { $0 &* 31 &+ Int($1) }))
    }
    return Weight(
      name: name, element: element, rows: rows, columns: columns,
      bytes: MappedRange(file: memory, range: 0..<byteCount))
  }

  /// Random bits, with scales and exponents that keep elements within a few hundredths of zero.
  private static func fill(
    _ bytes: UnsafeMutableRawBufferPointer, _ element: ElementType, seed: UInt64
  ) {
    var state = seed | 1
    func next() -> UInt64 {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return state
    }
    let words = bytes.count / 8
    for word in 0..<words {
      unsafe bytes.storeBytes(of: next(), toByteOffset: word * 8, as: UInt64.self)
    }
    func setHalf(_ bits: UInt16, at offset: Int) {
      unsafe bytes.storeBytes(of: bits, toByteOffset: offset, as: UInt16.self)
    }
    switch element {
    case .float64:
      for index in 0..<bytes.count / 8 {
        let value = (Double(next() >> 40) / Double(1 << 24) - 0.5) * 0.05
        unsafe bytes.storeBytes(of: value, toByteOffset: index * 8, as: Double.self)
      }
    case .float32:
      // A vector is a norm's weights.
      for index in 0..<bytes.count / 4 {
        let value = 1 + Float(next() >> 40) / Float(1 << 24) * 0.1
        unsafe bytes.storeBytes(of: value, toByteOffset: index * 4, as: Float.self)
      }
    case .float16, .bfloat16:
      // Exponents of 2^-7 to 2^-5, or 2^-6.
      for index in 0..<bytes.count / 2 {
        let bits = UInt16(truncatingIfNeeded: next())
        setHalf(
          element == .float16 ? bits & 0x87ff | 0x2000 : bits & 0x807f | 0x3c80, at: index * 2)
      }
    default:
      // Bits that make small numbers wherever a format has its scales; speed does not go by digits.
      for word in 0..<words {
        let bits = unsafe bytes.loadUnaligned(fromByteOffset: word * 8, as: UInt64.self)
        unsafe bytes.storeBytes(
          of: bits & 0x1b1b_1b1b_1b1b_1b1b, toByteOffset: word * 8, as: UInt64.self)
      }
      for index in words * 8..<bytes.count { unsafe bytes[index] = 0x1b }
      // Those would be powers of two too small for single precision.
      guard element == .mxfp4 else { break }
      for block in stride(from: 0, to: bytes.count, by: element.blockByteCount) {
        unsafe bytes[block] = 0x78
      }
    }
  }
}
