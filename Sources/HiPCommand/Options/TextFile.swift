// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPTensors

/// Reads texts whole; refuses what is not UTF-8.
enum TextFile {
  /// The text of a file, or of standard input for `-`.
  static func read(_ path: String) throws(FileError) -> String {
    let name = path == "-" ? "standard input" : path
    let data: Data
    do {
      data = try bytes(path)
    } catch let error as FileError {
      throw error
    } catch {
      throw FileError(
        .unreadable, path: name, problem: "cannot be read: \(error.localizedDescription)",
        cause: error)
    }
    let text = try text(data, name)
    guard !text.isEmpty else { throw FileError(path: name, problem: "is empty") }
    return text
  }

  /// All bytes, of pipes and of terminals, too.
  private static func bytes(_ path: String) throws -> Data {
    if path == "-" { return try FileHandle.standardInput.readToEnd() ?? Data() }
    // As it was given: names of files need not be UTF-8.
    let descriptor = unsafe open(RawArguments.bytes(of: path), O_RDONLY)
    guard descriptor >= 0 else {
      let reason = unsafe String(cString: strerror(errno))
      throw FileError(
        errno == ENOENT ? .missing : .unreadable, path: path,
        problem: errno == ENOENT ? "there is no such file" : "cannot be opened: \(reason)")
    }
    let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT != S_IFDIR else {
      throw FileError(.unreadable, path: path, problem: "is a folder")
    }
    return try file.readToEnd() ?? Data()
  }

  /// UTF-8, or UTF-16 behind a mark that says so.
  private static func text(_ data: Data, _ name: String) throws(FileError) -> String {
    let marks: [([UInt8], String.Encoding)] = [
      ([0xff, 0xfe], .utf16LittleEndian), ([0xfe, 0xff], .utf16BigEndian),
    ]
    for (mark, encoding) in marks where data.starts(with: mark) {
      guard let text = String(data: data.dropFirst(2), encoding: encoding) else {
        throw FileError(path: name, problem: "is damaged UTF-16 text")
      }
      return text
    }
    let start = data.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0
    guard let text = String(validating: data.dropFirst(start), as: UTF8.self) else {
      throw FileError(
        path: name,
        problem: "is not UTF-8 text (byte \(firstInvalidByte(data))). Convert it, for example with "
          + "iconv -f LATIN1 -t UTF-8")
    }
    // Every other byte of Latin text in UTF-16 is zero, which UTF-8 allows.
    let zeros = data.prefix(4096).count { $0 == 0 }
    guard zeros * 4 < min(data.count, 4096) || zeros == 0 else {
      throw FileError(
        path: name,
        problem:
          "looks like UTF-16 text without a mark of its byte order. Convert it, for example with "
          + "iconv -f UTF-16LE -t UTF-8")
    }
    return text
  }

  /// Offset of the first byte that is not part of a UTF-8 character.
  private static func firstInvalidByte(_ data: Data) -> Int {
    var low = 0
    var high = data.count
    // The longest valid beginning, give or take an unfinished last character.
    func isValid(_ count: Int) -> Bool {
      (0...3).contains { cut in
        cut <= count && String(validating: data.prefix(count - cut), as: UTF8.self) != nil
      }
    }
    while low < high {
      let middle = (low + high + 1) / 2
      if isValid(middle) { low = middle } else { high = middle - 1 }
    }
    while low > 0, String(validating: data.prefix(low), as: UTF8.self) == nil { low -= 1 }
    return low
  }
}
