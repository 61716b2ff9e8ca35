// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The arguments as the system gave them: bytes that need not be UTF-8.
enum RawArguments {
  /// Arguments that are no UTF-8, by what Swift makes of them.
  private static let repaired: [String: [CChar]] = {
    var table: [String: [CChar]] = [:]
    for index in 0..<Int(CommandLine.argc) {
      guard let argument = unsafe CommandLine.unsafeArgv[index] else { continue }
      let bytes = unsafe Array(UnsafeBufferPointer(start: argument, count: strlen(argument) + 1))
      let text = unsafe String(cString: argument)
      if !text.utf8.elementsEqual(bytes.dropLast().lazy.map { UInt8(bitPattern: $0) }) {
        table[text] = bytes
      }
    }
    return table
  }()

  /// The bytes of a path, with a zero behind them.
  static func bytes(of path: String) -> [CChar] {
    repaired[path] ?? path.utf8.map { CChar(bitPattern: $0) } + [0]
  }

  /// The arguments, with a question that begins with a hyphen behind the others: it is text, not an option.
  static var questionsLast: [String] {
    var arguments = Array(CommandLine.arguments.dropFirst())
    guard arguments.first == "ask", !arguments.contains("--") else { return arguments }
    let flags = ["--raw", "--json"]
    let place = arguments.indices.dropFirst().first { index in
      let previous = arguments[index - 1]
      let isValue = previous.hasPrefix("--") && !flags.contains(previous) && !previous.contains("=")
      return arguments[index].hasPrefix("-") && arguments[index].contains(" ") && !isValue
        && !arguments[index].hasPrefix("--")
    }
    if let place { arguments += ["--", arguments.remove(at: place)] }
    return arguments
  }
}
