// SPDX-License-Identifier: Apache-2.0

public import HiPTensors

/// A tensor of a GGUF file.
public struct GGUFTensor: Sendable {
  /// Its name.
  public let name: String
  /// Sizes, innermost first, as GGUF lists them.
  public let dimensions: [Int]
  /// How it is stored.
  public let type: GGUFTensorType
  /// Its bytes; nil when the type's size is not known here.
  public let bytes: MappedRange?

  struct Entry {
    let name: String
    let dimensions: [Int]
    let type: GGUFTensorType
    let offset: UInt64

    init(_ reader: inout ByteReader, index: Int) throws(FileError) {
      name = try reader.string("the name of tensor \(index)")
      let field = "the tensor \"\(name)\""
      let count = try reader.integer(UInt32.self, field)
      guard (1...4).contains(count) else {
        throw reader.error(field, "has \(count) dimensions; allowed are 1 to 4")
      }
      var dimensions: [Int] = []
      for _ in 0..<count {
        let size = try reader.integer(UInt64.self, field)
        guard size >= 1, size <= 1 << 40 else {
          throw reader.error(field, "has a dimension of \(size)")
        }
        dimensions.append(Int(size))
      }
      self.dimensions = dimensions
      type = GGUFTensorType(code: try reader.integer(UInt32.self, field))
      offset = try reader.integer(UInt64.self, field)
    }
  }

  init(_ entry: Entry, file: MappedFile, dataStart: Int, alignment: Int) throws(FileError) {
    name = entry.name
    dimensions = entry.dimensions
    type = entry.type
    func error(_ problem: String) -> FileError {
      FileError(path: file.path, problem: "the tensor \"\(entry.name)\" \(problem)")
    }
    var count = 1
    for size in entry.dimensions {
      let (product, overflow) = count.multipliedReportingOverflow(by: size)
      guard !overflow else { throw error("has more elements than can be counted") }
      count = product
    }
    guard entry.offset % UInt64(alignment) == 0 else {
      throw error("starts at \(entry.offset), which is not aligned to \(alignment) bytes")
    }
    guard let element = entry.type.element else {
      bytes = nil
      return
    }
    guard entry.dimensions[0] % element.blockSize == 0 else {
      throw error(
        "has rows of \(entry.dimensions[0]) elements, which do not fill \(element.rawValue) blocks "
          + "of \(element.blockSize)")
    }
    let (byteCount, overflow) = (count / element.blockSize).multipliedReportingOverflow(
      by: element.blockByteCount)
    let room = unsafe file.bytes.count - dataStart
    guard !overflow, room >= 0, entry.offset <= UInt64(room), byteCount <= room - Int(entry.offset)
    else {
      throw error(
        "lies outside the file (offset \(entry.offset) of the data); the file is truncated or "
          + "damaged, download it again")
    }
    let start = dataStart + Int(entry.offset)
    bytes = MappedRange(file: file, range: start..<start + byteCount)
  }
}

/// The storage type of a GGUF tensor.
public struct GGUFTensorType: Sendable, Hashable {
  /// The number in the file.
  public let code: UInt32

  /// How the elements are stored, if this project can read them.
  public var element: ElementType? { ElementType(ggufNumber: code) }

  /// The name that users know it by.
  public var name: String {
    if let element { return element.rawValue }
    let names: [UInt32: String] = [
      15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 40: "NVFP4",
    ]
    return names[code] ?? "unknown type \(code)"
  }
}
