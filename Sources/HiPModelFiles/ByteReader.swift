// SPDX-License-Identifier: Apache-2.0

internal import HiPTensors

/// Reads little-endian values from a mapped file, never past its end.
struct ByteReader {
  let file: MappedFile
  private(set) var offset = 0

  init(_ file: MappedFile) { self.file = file }

  var remaining: Int { unsafe file.bytes.count - offset }

  func error(_ field: String, _ problem: String) -> FileError {
    FileError(path: file.path, problem: "\(field) \(problem)")
  }

  private func truncated(_ field: String, needs count: String) -> FileError {
    error(
      field,
      "needs \(count) bytes at offset \(offset), but only \(remaining) are left; the file is "
        + "truncated or damaged, download it again")
  }

  mutating func skip(_ count: Int, _ field: String) throws(FileError) {
    guard count >= 0, count <= remaining else { throw truncated(field, needs: "\(count)") }
    offset += count
  }

  mutating func integer<Value: FixedWidthInteger>(
    _ type: Value.Type, _ field: String
  ) throws(FileError) -> Value {
    let size = MemoryLayout<Value>.size
    guard size <= remaining else { throw truncated(field, needs: "\(size)") }
    let value = unsafe file.bytes.loadUnaligned(fromByteOffset: offset, as: Value.self)
    offset += size
    return Value(littleEndian: value)
  }

  /// A count of things of at least `minimumSize` bytes each, which must fit into the file.
  mutating func count(_ field: String, minimumSize: Int) throws(FileError) -> Int {
    let value = try integer(UInt64.self, field)
    guard value <= UInt64(remaining / minimumSize) else {
      throw error(
        field, "is \(value), more than the file has room for; it is truncated or damaged")
    }
    return Int(value)
  }

  mutating func string(_ field: String) throws(FileError) -> String {
    let length = try count("the length of \(field)", minimumSize: 1)
    let bytes = unsafe UnsafeRawBufferPointer(rebasing: file.bytes[offset..<offset + length])
    guard let text = unsafe String(validating: bytes, as: UTF8.self) else {
      throw error(field, "is not UTF-8; the file is damaged")
    }
    offset += length
    return text
  }
}
