// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA

/// A file of kernels as it lies in the binary.
@safe package struct KernelSource: Sendable {
  /// What `#include` and `KernelProgram` call it.
  package let name: String
  /// Its text, ending with a zero; constant as long as the process lives.
  nonisolated(unsafe) let text: UnsafePointer<CChar>
  package let length: Int

  /// Whether it is included by others.
  package var isHeader: Bool { !name.hasSuffix(".cu") }

  /// Its bytes, without the zero.
  var bytes: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(start: text, count: length) }

  /// All that this build holds; none when its C compiler knows no `#embed`.
  package static let all: [KernelSource] = {
    var count = 0
    guard let files = unsafe ihp_kernel_files(&count) else { return [] }
    return (0..<count).map { index in
      let file = unsafe files[index]
      return unsafe KernelSource(
        name: String(cString: file.name), text: file.text, length: file.length)
    }
  }()

  /// What kernels include.
  static let headers = all.filter(\.isHeader)

  /// The file of that name.
  package static func named(_ name: String) -> KernelSource? { all.first { $0.name == name } }
}
