// SPDX-License-Identifier: Apache-2.0

/// Zeroed host memory, aligned for vector loads, with one owner.
@safe public struct HostBuffer<Element: BitwiseCopyable>: ~Copyable {
  private let storage: UnsafeMutableRawBufferPointer

  /// Allocates room for `count` elements, all bytes zero.
  public init(count: Int) {
    unsafe storage = .allocate(
      byteCount: max(1, count) * MemoryLayout<Element>.stride, alignment: 64)
    unsafe storage.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit { unsafe storage.deallocate() }

  /// The elements; valid while the buffer lives.
  ///
  /// The caller orders accesses from several threads.
  public var elements: UnsafeMutableBufferPointer<Element> {
    unsafe storage.assumingMemoryBound(to: Element.self)
  }
}
