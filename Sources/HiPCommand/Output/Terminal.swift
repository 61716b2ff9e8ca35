// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Standard output and standard error.
enum Terminal {
  static let errorIsTerminal = isatty(FileHandle.standardError.fileDescriptor) == 1
  static let inputIsTerminal = isatty(FileHandle.standardInput.fileDescriptor) == 1

  /// Columns of the terminal behind standard error; 80 when there is none.
  static var columns: Int {
    var size = winsize()
    guard unsafe ioctl(FileHandle.standardError.fileDescriptor, UInt(TIOCGWINSZ), &size) == 0,
      size.ws_col > 0
    else { return 80 }
    return Int(size.ws_col)
  }

  /// Writes without a line end, at once.
  static func write(_ text: String) { write(Data(text.utf8)) }

  /// Writes a line.
  ///
  /// `print` has a buffer of its own, and would mix up the order with `write`.
  static func line(_ text: String) { write(text + "\n") }

  /// Writes bytes; a full disk or a closed pipe ends the program.
  static func write(_ data: Data) {
    do {
      try FileHandle.standardOutput.write(contentsOf: data)
    } catch {
      note("Error: standard output cannot be written: \(error.localizedDescription)\n")
      exit(1)
    }
  }

  /// Writes to standard error without a line end.
  static func note(_ text: String) {
    // There is nobody left to tell when this fails.
    try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
  }

  /// A value as one line of JSON.
  static func jsonText(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
  }

  /// Prints one JSON object.
  static func printJSON(_ value: some Encodable) throws { write(try jsonText(value)) }
}
