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
      if path == "-" {
        data = try FileHandle.standardInput.readToEnd() ?? Data()
      } else {
        var isFolder: ObjCBool = false
        guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
          throw FileError(.missing, path: path, problem: "there is no such file")
        }
        guard !isFolder.boolValue else {
          throw FileError(.unreadable, path: path, problem: "is a folder")
        }
        data = try Data(contentsOf: URL(filePath: path))
      }
    } catch let error as FileError {
      throw error
    } catch {
      throw FileError(
        .unreadable, path: name, problem: "cannot be read: \(error.localizedDescription)",
        cause: error)
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      throw FileError(
        path: name,
        problem: "is not UTF-8 text (byte \(firstInvalidByte(data))). Convert it, for example with "
          + "iconv -f LATIN1 -t UTF-8")
    }
    guard !text.isEmpty else { throw FileError(path: name, problem: "is empty") }
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
