// SPDX-License-Identifier: Apache-2.0

internal import HiPJSON
public import HiPTensors

/// A safetensors file, mapped into memory: where its tensors lie.
///
/// Offsets, sizes, overlaps and names are checked before anything is used.
public struct SafetensorsFile: Sendable {
  /// The mapped file.
  public let file: MappedFile
  /// The tensors in the order in which they lie.
  public let tensors: [Tensor]

  /// A tensor.
  public struct Tensor: Sendable {
    /// Its name.
    public let name: String
    /// The element type's name in the file, such as `BF16`.
    public let type: String
    /// Sizes, the fastest dimension last.
    public let shape: [Int]
    /// Its bytes.
    public let bytes: MappedRange

    /// How the elements are stored, if this project can read them.
    public var element: ElementType? {
      switch type {
      case "F64": .float64
      case "F32": .float32
      case "F16": .float16
      case "BF16": .bfloat16
      default: nil
      }
    }
  }

  /// Opens and checks the file at `path`.
  public init(path: String) throws(FileError) { try self.init(MappedFile(path: path)) }

  /// Reads a mapped file.
  public init(_ file: MappedFile) throws(FileError) {
    self.file = file
    func error(_ problem: String) -> FileError { FileError(path: file.path, problem: problem) }
    var reader = ByteReader(file)
    let length = try reader.count("the length of the header", minimumSize: 1)
    guard length <= 100_000_000 else { throw error("has a header of \(length) bytes") }
    let start = reader.offset
    try reader.skip(length, "the header")
    let header: JSONValue
    do {
      header = try JSONValue(unsafe Array(file.bytes[start..<start + length]))
    } catch {
      throw FileError(path: file.path, problem: "is no safetensors file: \(error)", cause: error)
    }
    guard let members = header.members else { throw error("is no safetensors file") }
    let dataStart = reader.offset
    let dataSize = reader.remaining
    var names: Set<String> = []
    var tensors: [Tensor] = []
    for member in members where member.key != "__metadata__" {
      guard names.insert(member.key).inserted else {
        throw error("the tensor \"\(member.key)\" stands in the file twice")
      }
      let range = try Self.range(of: member, size: dataSize, file.path)
      tensors.append(
        Tensor(
          name: member.key, type: member.value["dtype"]?.text ?? "",
          shape: member.value["shape"]?.items?.compactMap(\.integer) ?? [],
          bytes: MappedRange(
            file: file, range: dataStart + range.lowerBound..<dataStart + range.upperBound)))
    }
    tensors.sort { $0.bytes.range.lowerBound < $1.bytes.range.lowerBound }
    for (first, second) in zip(tensors, tensors.dropFirst())
    where second.bytes.range.lowerBound < first.bytes.range.upperBound {
      throw error("the tensors \"\(first.name)\" and \"\(second.name)\" overlap")
    }
    self.tensors = tensors
  }

  /// Where a tensor's data lie, which its shape and type must fill.
  private static func range(
    of member: JSONValue.Member, size: Int, _ path: String
  ) throws(FileError) -> Range<Int> {
    func error(_ problem: String) -> FileError {
      FileError(path: path, problem: "the tensor \"\(member.key)\" \(problem)")
    }
    guard let type = member.value["dtype"]?.text, let shape = member.value["shape"]?.items,
      let offsets = member.value["data_offsets"]?.items, offsets.count == 2,
      let begin = offsets[0].integer, let end = offsets[1].integer
    else { throw error("has no type, shape or offsets") }
    guard begin >= 0, begin <= end, end <= size else {
      throw error(
        "lies outside the file (bytes \(begin) to \(end) of \(size)); the file is truncated or damaged, download "
          + "it again")
    }
    let sizes = [
      "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "U8": 1, "I8": 1,
      "BOOL": 1,
      "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8, "F8_E8M0": 1,
    ]
    guard let elementSize = sizes[type] else { throw error("has the unknown type \"\(type)\"") }
    var count = elementSize
    for size in shape {
      guard let size = size.integer, size >= 0 else { throw error("has no sizes in its shape") }
      let (product, overflow) = count.multipliedReportingOverflow(by: size)
      guard !overflow else { throw error("has more elements than can be counted") }
      count = product
    }
    guard count == end - begin else {
      throw error("has \(end - begin) bytes where its shape calls for \(count)")
    }
    return begin..<end
  }
}
