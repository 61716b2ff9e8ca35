// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPTensors

/// Working memory of one thread: grows to the largest need and stays.
final class Scratch {
  private var buffer = HostBuffer<Float>(count: 0)
  /// How much is taken; setting it back frees what was taken since.
  var mark = 0

  /// Starts anew with room for `count` floats; what was taken before is void.
  func reset(_ count: Int) {
    mark = 0
    if buffer.elements.count < count { buffer = HostBuffer<Float>(count: count + count / 4) }
  }

  /// The next `count` floats, 64-byte aligned, contents undefined.
  func take(_ count: Int) -> UnsafeMutablePointer<Float> {
    let start = mark
    mark += (count + 15) / 16 * 16
    precondition(mark <= buffer.elements.count, "scratch memory was reset too small")
    return buffer.elements.baseAddress.unsafelyUnwrapped + start
  }

  /// The next `count` 32-bit integers.
  func takeIntegers(_ count: Int) -> UnsafeMutablePointer<Int32> {
    UnsafeMutableRawPointer(take(count)).assumingMemoryBound(to: Int32.self)
  }

  /// What `take(count)` uses up.
  static func size(_ count: Int) -> Int { (count + 15) / 16 * 16 }
}

/// Cosines and sines of positions, computed in double precision once and kept.
final class RotationTable {
  private let rotary: RotaryEmbedding
  private var rows = HostBuffer<Float>(count: 0)
  private var count = 0

  init(_ rotary: RotaryEmbedding) { self.rotary = rotary }

  func rotations(count needed: Int) -> Rotations {
    let width = 2 * rotary.frequencies.count
    if needed > count {
      let capacity = max(needed, min(2 * count, count + 65536), 1024)
      let grown = HostBuffer<Float>(count: capacity * width)
      for index in 0..<count * width { grown.elements[index] = rows.elements[index] }
      for position in count..<capacity {
        for (index, value) in rotary.row(position: position).enumerated() {
          grown.elements[position * width + index] = Float(value)
        }
      }
      rows = grown
      count = capacity
    }
    return Rotations(table: rows.elements.baseAddress, half: width / 2)
  }
}

/// A view of a rotation table for the kernels: `[position][cosines, sines]`, or nothing.
struct Rotations {
  let table: UnsafeMutablePointer<Float>?
  let half: Int

  func row(_ position: Int) -> UnsafePointer<Float>? {
    table.map { UnsafePointer($0 + position * 2 * half) }
  }
}
