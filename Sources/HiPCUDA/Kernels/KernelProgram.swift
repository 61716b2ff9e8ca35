// SPDX-License-Identifier: Apache-2.0

/// A file of kernels with the macros that make one of its variants: what is compiled as a whole.
package struct KernelProgram: Sendable, Hashable, CustomStringConvertible {
  /// The file, as "rows.cu".
  package let file: String
  /// Definitions of macros, in order.
  package let macros: [Macro]

  /// A macro and its value.
  package struct Macro: Sendable, Hashable {
    package let name: String
    package let value: String

    package init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }

    package init(_ name: String, _ value: Int) { self.init(name, "\(value)") }
  }

  package init(_ file: String, _ macros: [Macro] = []) {
    self.file = file
    self.macros = macros
  }

  /// The file and its macros.
  package var description: String {
    ([file] + macros.map { "\($0.name)=\($0.value)" }).joined(separator: " ")
  }
}
