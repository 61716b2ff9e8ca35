// SPDX-License-Identifier: Apache-2.0

/// What a cubin is compiled for.
package struct KernelArchitecture: Sendable, Hashable, CustomStringConvertible {
  /// As the compiler has it: "sm_90a".
  package let name: String

  /// Takes the compiler's name.
  package init(name: String) { self.name = name }

  /// The best that a compiler knows for a device; nil when it knows none.
  ///
  /// Code for one minor version runs on later ones of the same major. Only on Hopper are there instructions that an
  /// `a` asks for: matrix products of a warpgroup.
  /// - Parameter known: capabilities as the compiler numbers them, 90 for 9.0.
  package init?(_ capability: DeviceFacts.Capability, known: [Int]) {
    let fitting = known.filter {
      $0 / 10 == capability.major && $0 % 10 <= capability.minor
    }
    guard let best = fitting.max() else { return nil }
    name = "sm_\(best)" + (best == 90 ? "a" : "")
  }

  package var description: String { name }
}
