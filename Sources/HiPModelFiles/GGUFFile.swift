// SPDX-License-Identifier: Apache-2.0

public import HiPTensors

/// A GGUF file, version 2 or 3, mapped into memory: its metadata and where its tensors lie.
///
/// Every count, length and offset is checked against the file before it is used.
public struct GGUFFile: Sendable {
  /// The mapped file.
  public let file: MappedFile
  /// 2 or 3.
  public let version: Int
  /// The key-value pairs.
  public let metadata: Metadata
  /// The tensors in the order of the file.
  public let tensors: [GGUFTensor]
  private let places: [String: Int]

  /// Opens and checks the file at `path`, and with it the other parts where it is one of several.
  public init(path: String) throws(FileError) {
    let file = try GGUFFile(MappedFile(path: path))
    let count = try file.metadata.integer("split.count", in: 0...10_000, default: 0)
    self = count > 1 ? try file.joined(count) : file
  }

  /// The whole model of which this is one of `count` parts, named `NAME-00001-of-00002.gguf`.
  private func joined(_ count: Int) throws(FileError) -> GGUFFile {
    func number(_ value: Int) -> String {
      let digits = "\(value)"
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    let own = try metadata.integer("split.no", in: 0...count - 1)
    let ending = "-\(number(own + 1))-of-\(number(count)).gguf"
    guard path.hasSuffix(ending) else {
      throw FileError(
        path: path,
        problem:
          "is part \(own + 1) of \(count), but its name does not end in \(ending), by which the other parts "
          + "are found; give it that name")
    }
    var parts: [GGUFFile] = []
    for part in 0..<count {
      let name = path.dropLast(ending.count) + "-\(number(part + 1))-of-\(number(count)).gguf"
      do {
        parts.append(part == own ? self : try GGUFFile(MappedFile(path: String(name))))
      } catch  where error.code == .missing {
        throw FileError(
          .missing, path: path,
          problem:
            "is part \(own + 1) of \(count); part \(part + 1), \(name), is missing. Put all parts into one "
            + "folder")
      }
      guard try parts[part].metadata.integer("split.no", in: 0...count - 1, default: -1) == part
      else {
        throw FileError(path: parts[part].path, problem: "is not the part that its name says")
      }
    }
    var tensors: [GGUFTensor] = []
    var places: [String: Int] = [:]
    for part in parts {
      for tensor in part.tensors {
        guard places.updateValue(tensors.count, forKey: tensor.name) == nil else {
          throw FileError(
            path: part.path, problem: "the tensor \"\(tensor.name)\" stands in another part, too")
        }
        tensors.append(tensor)
      }
    }
    return GGUFFile(first: parts[0], tensors: tensors, places: places)
  }

  private init(first: GGUFFile, tensors: [GGUFTensor], places: [String: Int]) {
    file = first.file
    version = first.version
    metadata = first.metadata
    self.tensors = tensors
    self.places = places
  }

  /// Reads a mapped file.
  public init(_ file: MappedFile) throws(FileError) {
    self.file = file
    var reader = ByteReader(file)
    guard reader.remaining >= 4, try reader.integer(UInt32.self, "the magic number") == 0x4655_4747
    else {
      throw FileError(path: file.path, problem: "is not a GGUF file: it does not begin with GGUF")
    }
    let version = try reader.integer(UInt32.self, "the version")
    guard version == 2 || version == 3 else {
      let swapped = version.byteSwapped == 2 || version.byteSwapped == 3
      throw FileError(
        path: file.path,
        problem: swapped
          ? "is a big-endian GGUF file; only little-endian ones can be read"
          : "has GGUF version \(version); versions 2 and 3 can be read")
    }
    self.version = Int(version)
    // The smallest tensor entry: name length, dimension count, type, offset.
    let tensorCount = try reader.count("the number of tensors", minimumSize: 24)
    // The smallest pair: key length, type, one byte.
    let pairCount = try reader.count("the number of metadata entries", minimumSize: 13)
    var values: [String: MetadataValue] = [:]
    for index in 0..<pairCount {
      let key = try reader.string("the key of metadata entry \(index)")
      let value = try Self.value(&reader, "metadata entry \"\(key)\"")
      guard values.updateValue(value, forKey: key) == nil else {
        throw reader.error("the metadata key \"\(key)\"", "stands in the file twice")
      }
    }
    metadata = Metadata(path: file.path, values: values)
    var entries: [GGUFTensor.Entry] = []
    for index in 0..<tensorCount { entries.append(try GGUFTensor.Entry(&reader, index: index)) }
    let alignment = try metadata.integer("general.alignment", in: 1...1 << 20, default: 32)
    // Less would put numbers where no processor may expect them.
    guard alignment.nonzeroBitCount == 1, alignment >= 8 else {
      throw reader.error(
        "\"general.alignment\"", "is \(alignment); it must be a power of two, 8 or more")
    }
    let start = (reader.offset + alignment - 1) / alignment * alignment
    var tensors: [GGUFTensor] = []
    var places: [String: Int] = [:]
    for entry in entries {
      guard places.updateValue(tensors.count, forKey: entry.name) == nil else {
        throw reader.error("the tensor \"\(entry.name)\"", "stands in the file twice")
      }
      tensors.append(try GGUFTensor(entry, file: file, dataStart: start, alignment: alignment))
    }
    self.tensors = tensors
    self.places = places
  }

  /// The tensor of that name.
  func tensor(named name: String) -> GGUFTensor? { places[name].map { tensors[$0] } }

  private static func value(
    _ reader: inout ByteReader, _ field: String
  ) throws(FileError) -> MetadataValue {
    let type = try reader.integer(UInt32.self, "the type of \(field)")
    switch type {
    case 0: return .integer(Int64(try reader.integer(UInt8.self, field)))
    case 1: return .integer(Int64(try reader.integer(Int8.self, field)))
    case 2: return .integer(Int64(try reader.integer(UInt16.self, field)))
    case 3: return .integer(Int64(try reader.integer(Int16.self, field)))
    case 4: return .integer(Int64(try reader.integer(UInt32.self, field)))
    case 5: return .integer(Int64(try reader.integer(Int32.self, field)))
    case 6: return .number(Double(Float(bitPattern: try reader.integer(UInt32.self, field))))
    case 7: return .flag(try flag(&reader, field))
    case 8: return .text(try reader.string(field))
    case 9: return try list(&reader, field)
    case 10:
      let value = try reader.integer(UInt64.self, field)
      return Int64(exactly: value).map { .integer($0) } ?? .unsigned(value)
    case 11: return .integer(try reader.integer(Int64.self, field))
    case 12: return .number(Double(bitPattern: try reader.integer(UInt64.self, field)))
    default: throw reader.error(field, "has the unknown type \(type); known are 0 to 12")
    }
  }

  private static func flag(_ reader: inout ByteReader, _ field: String) throws(FileError) -> Bool {
    let byte = try reader.integer(UInt8.self, field)
    guard byte <= 1 else { throw reader.error(field, "is \(byte), neither false (0) nor true (1)") }
    return byte == 1
  }

  private static func list(
    _ reader: inout ByteReader, _ field: String
  ) throws(FileError) -> MetadataValue {
    let type = try reader.integer(UInt32.self, "the element type of \(field)")
    let sizes = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8]
    guard type < 13 else {
      throw reader.error(field, "has elements of the unknown type \(type); known are 0 to 12")
    }
    let count = try reader.count("the length of \(field)", minimumSize: sizes[Int(type)])
    func integers<Value: FixedWidthInteger>(_ type: Value.Type) throws(FileError) -> MetadataValue {
      var values: [Int64] = []
      values.reserveCapacity(count)
      for _ in 0..<count {
        let value = try reader.integer(type, field)
        guard let value = Int64(exactly: value) else {
          throw reader.error(field, "holds \(value), too large a number")
        }
        values.append(value)
      }
      return .integers(values)
    }
    switch type {
    case 0: return try integers(UInt8.self)
    case 1: return try integers(Int8.self)
    case 2: return try integers(UInt16.self)
    case 3: return try integers(Int16.self)
    case 4: return try integers(UInt32.self)
    case 5: return try integers(Int32.self)
    case 10: return try integers(UInt64.self)
    case 11: return try integers(Int64.self)
    case 7:
      var values: [Bool] = []
      for _ in 0..<count { values.append(try flag(&reader, field)) }
      return .flags(values)
    case 8:
      var values: [String] = []
      values.reserveCapacity(count)
      for index in 0..<count { values.append(try reader.string("element \(index) of \(field)")) }
      return .texts(values)
    case 9:
      throw reader.error(field, "is a list of lists, which no model needs")
    default:
      var values: [Double] = []
      values.reserveCapacity(count)
      for _ in 0..<count {
        values.append(
          type == 6
            ? Double(Float(bitPattern: try reader.integer(UInt32.self, field)))
            : Double(bitPattern: try reader.integer(UInt64.self, field)))
      }
      return .numbers(values)
    }
  }
}
