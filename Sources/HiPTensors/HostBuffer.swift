// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Zeroed host memory, aligned for vector loads, with one owner.
///
/// What is large comes straight from the system, which commits it as it is written.
@safe public struct HostBuffer<Element: BitwiseCopyable>: ~Copyable {
  private let storage: UnsafeMutableRawBufferPointer

  /// Allocates room for `count` elements, all bytes zero.
  /// - Throws: `MemoryError` when there is no such memory.
  public init(count: Int) throws(MemoryError) {
    let (size, overflow) = max(1, count).multipliedReportingOverflow(
      by: MemoryLayout<Element>.stride)
    guard count >= 0, !overflow else { throw MemoryError(byteCount: .max) }
    var address: UnsafeMutableRawPointer?
    if size >= mappedFrom {
      unsafe address = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)
      if unsafe address == MAP_FAILED { unsafe address = nil }
    } else if unsafe posix_memalign(&address, 64, size) == 0 {
      unsafe address?.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    } else {
      unsafe address = nil
    }
    guard let start = unsafe address else { throw MemoryError(byteCount: size) }
    unsafe storage = UnsafeMutableRawBufferPointer(start: start, count: size)
  }

  deinit {
    if unsafe storage.count >= mappedFrom {
      unsafe munmap(storage.baseAddress, storage.count)
    } else {
      unsafe free(storage.baseAddress)
    }
  }

  /// The elements; valid while the buffer lives.
  ///
  /// The caller orders accesses from several threads.
  public var elements: UnsafeMutableBufferPointer<Element> {
    unsafe storage.assumingMemoryBound(to: Element.self)
  }
}

/// Bytes from which on memory is mapped instead of taken from the heap.
private let mappedFrom = 1 << 20

/// There is no memory of that size.
public struct MemoryError: Error, Sendable, CustomStringConvertible {
  /// Bytes that were asked for.
  public let byteCount: Int

  /// Creates an error about so many bytes.
  public init(byteCount: Int) { self.byteCount = byteCount }

  /// The text to show.
  public var description: String {
    "there is no memory for \(max(1, byteCount >> 20)) MB more; close other programs, or shorten the text"
  }
}
