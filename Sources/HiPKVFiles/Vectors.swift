// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Buffers of which a part has been moved.
@safe struct Vectors {
  /// What every system takes in one call.
  private static let callLimit = 1024

  private var vectors: [iovec]
  private var first = 0

  init(_ vectors: [iovec]) {
    unsafe self.vectors = unsafe vectors
    drop(0)
  }

  var isEmpty: Bool { unsafe first == vectors.count }

  /// The next buffers, in the form in which calls take them.
  func withNext(_ call: (UnsafePointer<iovec>, Int32) -> Int) -> Int {
    unsafe vectors.withUnsafeBufferPointer { buffer in
      guard let start = buffer.baseAddress else { return 0 }
      let count = min(buffer.count - first, Self.callLimit)
      return unsafe call(start + first, Int32(count))
    }
  }

  /// Forgets the bytes that were moved, and empty buffers.
  mutating func drop(_ count: Int) {
    var count = count
    while unsafe first < vectors.count {
      let length = unsafe vectors[first].iov_len
      if count < length {
        unsafe vectors[first].iov_base = unsafe vectors[first].iov_base.map { unsafe $0 + count }
        unsafe vectors[first].iov_len = length - count
        return
      }
      count -= length
      first += 1
    }
  }
}
