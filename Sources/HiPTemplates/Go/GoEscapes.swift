// SPDX-License-Identifier: Apache-2.0

/// What `html`, `js` and `urlquery` write for a character; nil: the character itself.
enum GoEscapes {
  static func escape(_ scalar: Unicode.Scalar, for function: GoFunction) -> String? {
    switch function {
    case .html: html(scalar)
    case .js: js(scalar)
    default: query(scalar)
    }
  }

  private static func html(_ scalar: Unicode.Scalar) -> String? {
    switch scalar {
    case "<": "&lt;"
    case ">": "&gt;"
    case "&": "&amp;"
    case "\"": "&#34;"
    case "'": "&#39;"
    case "\0": "\u{fffd}"
    default: nil
    }
  }

  private static func js(_ scalar: Unicode.Scalar) -> String? {
    switch scalar {
    case "\\": "\\\\"
    case "'": "\\'"
    case "\"": "\\\""
    case "<", ">", "&", "=", "\0"..."\u{1f}":
      "\\u" + hexadecimal(scalar.value, 4)
    default: nil
    }
  }

  private static func query(_ scalar: Unicode.Scalar) -> String? {
    switch scalar {
    case "0"..."9", "a"..."z", "A"..."Z", "-", "_", ".", "~": nil
    case " ": "+"
    default: String(scalar).utf8.map { "%" + hexadecimal($0, 2) }.joined()
    }
  }

  private static func hexadecimal(_ value: some BinaryInteger, _ width: Int) -> String {
    GoNumber.hex(value, width).uppercased()
  }
}
