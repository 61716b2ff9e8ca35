// SPDX-License-Identifier: Apache-2.0

public import HiPTensors

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// An array of a NumPy `.npy` file, as float32.
public struct NumPyArray: Sendable, Hashable {
  /// Sizes, outermost first.
  public let shape: [Int]
  /// The elements, last axis fastest.
  public let elements: [Float]

  /// Wraps elements, whose number must be the product of `shape`.
  public init(shape: [Int], elements: [Float]) {
    precondition(shape.reduce(1, *) == elements.count)
    self.shape = shape
    self.elements = elements
  }

  /// Reads a file of little-endian float32 or float16 in C order.
  public init(path: String) throws(FileError) {
    let file = try MappedFile(path: path)
    var reader = ByteReader(file)
    func error(_ problem: String) -> FileError { FileError(path: path, problem: problem) }
    let magic = try reader.integer(UInt64.self, "the NumPy header")
    guard magic & 0xffff_ffff_ffff == 0x59_504d_554e_93 else {
      throw error("is not a NumPy file (.npy)")
    }
    let major = (magic >> 48) & 0xff
    guard (1...3).contains(major) else { throw error("has NumPy format version \(major)") }
    let length =
      major == 1
      ? Int(try reader.integer(UInt16.self, "the NumPy header's length"))
      : Int(try reader.integer(UInt32.self, "the NumPy header's length"))
    let start = reader.offset
    try reader.skip(length, "the NumPy header")
    let header = unsafe String(decoding: file.bytes[start..<start + length], as: UTF8.self)
    guard let order = Self.field("fortran_order", of: header), order.hasPrefix("False") else {
      throw error("is not in C order; save it with numpy.ascontiguousarray")
    }
    guard let type = Self.field("descr", of: header)?.dropFirst().prefix(3) else {
      throw error("has no element type in its header")
    }
    let isHalf = type == "<f2"
    guard isHalf || type == "<f4" else {
      throw error("has elements of type \(type); allowed are <f4 and <f2 (float32 and float16)")
    }
    guard let sizes = Self.field("shape", of: header), sizes.hasPrefix("("),
      let end = sizes.firstIndex(of: ")")
    else { throw error("has no shape in its header") }
    var shape: [Int] = []
    var count = 1
    for part in sizes[sizes.index(after: sizes.startIndex)..<end].split(separator: ",") {
      guard let size = Int(part.filter { $0 != " " }), size >= 0, size < 1 << 40 else {
        throw error("has the size \"\(part)\" in its shape")
      }
      let (product, overflow) = count.multipliedReportingOverflow(by: size)
      guard !overflow else { throw error("has more elements than can be counted") }
      count = product
      shape.append(size)
    }
    guard reader.remaining / (isHalf ? 2 : 4) >= count else {
      throw error("holds fewer than the \(count) elements of its shape; it is truncated")
    }
    self.shape = shape
    let data = reader.offset
    elements = (0..<count).map { index in
      if isHalf {
        let bits = unsafe file.bytes.loadUnaligned(
          fromByteOffset: data + index * 2, as: UInt16.self)
        return Float(halfBits: UInt16(littleEndian: bits))
      }
      let bits = unsafe file.bytes.loadUnaligned(fromByteOffset: data + index * 4, as: UInt32.self)
      return Float(bitPattern: UInt32(littleEndian: bits))
    }
  }

  /// Writes a float32 file.
  public func write(to path: String) throws(FileError) {
    let sizes = shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
    var header = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(sizes)), }"
    header += String(repeating: " ", count: 63 - (header.utf8.count + 10) % 64) + "\n"
    var data = Data([0x93] + Array("NUMPY".utf8) + [1, 0])
    data.append(UInt8(header.utf8.count & 0xff))
    data.append(UInt8(header.utf8.count >> 8))
    data.append(contentsOf: header.utf8)
    for element in elements {
      let bits = element.bitPattern.littleEndian
      unsafe withUnsafeBytes(of: bits) { unsafe data.append(contentsOf: $0) }
    }
    do {
      try data.write(to: URL(filePath: path))
    } catch {
      throw FileError(path: path, problem: "cannot be written; name a file in a folder that exists")
    }
  }

  /// The text behind `'name':` in a header.
  private static func field(_ name: String, of header: String) -> Substring? {
    guard let range = header.firstRange(of: "'\(name)':") else { return nil }
    return header[range.upperBound...].drop { $0 == " " }
  }
}
