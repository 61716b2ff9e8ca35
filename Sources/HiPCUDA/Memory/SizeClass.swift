// SPDX-License-Identifier: Apache-2.0

/// The sizes in which a device's memory is taken, so that what was given back fits what is asked for next.
enum SizeClass {
  /// Nothing is smaller.
  static let smallest = 512
  /// From here on sizes are whole pages of the driver; below, four to a doubling.
  static let largest = 64 << 20
  /// The driver's own pages.
  static let page = 2 << 20

  /// Bytes that a request takes; nil: no device has so much.
  static func byteCount(for count: Int) -> Int? {
    if count <= smallest { return smallest }
    if count >= largest {
      guard count < 1 << 60 else { return nil }
      return (count + page - 1) / page * page
    }
    // A quarter of the power of two at or below it.
    let step = 1 << max(7, Int.bitWidth - 1 - (count - 1).leadingZeroBitCount - 2)
    return (count + step - 1) / step * step
  }
}
