// SPDX-License-Identifier: Apache-2.0

/// Indices of the `count` largest values, ascending; of equal ones the first.
package func indicesOfLargest(_ count: Int, of values: UnsafeBufferPointer<Float>) -> [Int] {
  guard count < values.count else { return Array(values.indices) }
  guard count > 0 else { return [] }
  // Bit patterns that order as the numbers do.
  func key(_ value: Float) -> UInt32 {
    let bits = value.bitPattern
    return bits & 0x8000_0000 == 0 ? bits | 0x8000_0000 : ~bits
  }
  var result: [Int] = []
  // How many of the keys that begin as the `count`-th largest does are taken.
  var rest = count
  unsafe withUnsafeTemporaryAllocation(of: Int32.self, capacity: 2048) { histogram in
    /// The largest digit that is needed to have `rest` keys.
    func lastDigit() -> UInt32 {
      var digit = histogram.count - 1
      while unsafe Int(histogram[digit]) < rest {
        unsafe rest -= Int(histogram[digit])
        digit -= 1
      }
      return UInt32(digit)
    }
    unsafe histogram.update(repeating: 0)
    for index in values.indices { unsafe histogram[Int(key(values[index]) >> 21)] += 1 }
    var prefix = lastDigit()
    unsafe result.reserveCapacity(count - rest + Int(histogram[Int(prefix)]))
    // Keys that begin like the `count`-th largest.
    var close: [UInt32] = []
    for index in values.indices {
      let key = unsafe key(values[index])
      guard key >> 21 >= prefix else { continue }
      result.append(index)
      if key >> 21 == prefix { close.append(key) }
    }
    for (shift, width) in [(10, 11), (0, 10)] as [(UInt32, UInt32)] {
      unsafe histogram.update(repeating: 0)
      let digit = UInt32(1) << width - 1
      for key in close where key >> (shift + width) == prefix {
        unsafe histogram[Int(key >> shift & digit)] += 1
      }
      prefix = prefix << width | lastDigit()
    }
    result = result.filter { index in
      let key = unsafe key(values[index])
      guard key == prefix else { return key > prefix }
      rest -= 1
      return rest >= 0
    }
  }
  return result
}
