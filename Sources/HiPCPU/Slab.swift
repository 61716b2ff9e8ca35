// SPDX-License-Identifier: Apache-2.0

internal import HiPTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Memory straight from the system: nothing is committed before it is written, and large memory
/// blocks are asked for, because selected keys lie scattered over all of it.
///
/// Whoever hands out its parts orders accesses from several threads.
final class Slab: @unchecked Sendable {
  let start: UnsafeMutablePointer<UInt8>
  private let mapping: HostBuffer<UInt8>

  private static let alignment = 2 << 20

  init(byteCount: Int) throws(MemoryError) {
    mapping = try HostBuffer<UInt8>(count: byteCount + Self.alignment)
    // A HostBuffer is never empty.
    let address = UnsafeMutableRawPointer(mapping.elements.baseAddress.unsafelyUnwrapped)
      .alignedUp(toMultipleOf: Self.alignment)
    #if canImport(Glibc) || canImport(Musl)
      // Advice: without it everything works, only slower.
      _ = madvise(address, byteCount, MADV_HUGEPAGE)
    #endif
    start = address.assumingMemoryBound(to: UInt8.self)
  }

  /// Lets the system have the whole pages of a part, which reads as zeros from then on.
  func giveBack(_ range: Range<Int>) {
    let page = Int(getpagesize())
    let address = UnsafeMutableRawPointer(start + range.lowerBound).alignedUp(toMultipleOf: page)
    let end = UnsafeMutableRawPointer(start + range.upperBound).alignedDown(toMultipleOf: page)
    guard address < end else { return }
    // Where that fails the memory merely stays.
    _ = madvise(address, end - address, MADV_DONTNEED)
  }
}
