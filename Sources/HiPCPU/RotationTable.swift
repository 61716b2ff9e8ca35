// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPTensors

/// Cosines and sines of positions, computed in double precision once and kept.
///
/// Positions beyond `rowLimit` are put together from two rows, so that a text of a million tokens needs no
/// table of its length.
final class RotationTable {
  static let rowLimit = 1 << 16

  private let rotary: RotaryEmbedding
  private let ledger: MemoryLedger
  /// Rows of the first positions, and of the multiples of `rowLimit`.
  private var fine = Rows()
  private var coarse = Rows()
  /// Rows that have been replaced by more, to which sequences of the same step may still point.
  private var replaced: [RowMemory] = []
  /// When it was last used: the tables that were not go first.
  var lastUse = 0

  private struct Rows {
    var memory: RowMemory?
    var count = 0
    var address: UnsafeMutablePointer<Float>? { memory?.start }
  }

  private final class RowMemory {
    private let buffer: HostBuffer<Float>
    let start: UnsafeMutablePointer<Float>?

    init(count: Int) throws(MemoryError) {
      buffer = try HostBuffer<Float>(count: count)
      start = buffer.elements.baseAddress
    }
  }

  /// The step is over: nobody points to what was replaced.
  func endStep() { replaced = [] }

  init(_ rotary: RotaryEmbedding, _ ledger: MemoryLedger) {
    self.rotary = rotary
    self.ledger = ledger
  }

  /// Rotations of the positions below `needed`.
  ///
  /// Without memory for them nothing is rotated; the step is then void, and `submit` says so.
  func rotations(count needed: Int) -> Rotations {
    let half = rotary.frequencies.count
    do {
      if min(needed, Self.rowLimit) > fine.count {
        let doubled = max(needed, 2 * fine.count, 1024)
        try grow(&fine, to: min(doubled, Self.rowLimit), step: 1)
      }
      guard needed > Self.rowLimit else {
        return Rotations(table: fine.address, coarse: nil, half: half)
      }
      let coarseCount = (needed + Self.rowLimit - 1) / Self.rowLimit
      if coarseCount > coarse.count {
        try grow(&coarse, to: max(coarseCount, 16), step: Self.rowLimit)
      }
      return Rotations(table: fine.address, coarse: coarse.address, half: half)
    } catch {
      ledger.countFailure(error)
      return .none
    }
  }

  private func grow(_ rows: inout Rows, to count: Int, step: Int) throws(MemoryError) {
    let width = 2 * rotary.frequencies.count
    let grown = try RowMemory(count: count * width)
    ledger.countAllocation()
    if let before = rows.address { grown.start?.update(from: before, count: rows.count * width) }
    for index in rows.count..<count {
      // Where two rows are put together, one of them carries the amplitude.
      let amplitude = step == 1 ? rotary.amplitude : 1
      for (element, value) in rotary.row(position: index * step).enumerated() {
        grown.start?[index * width + element] = Float(value * amplitude)
      }
    }
    if let before = rows.memory { replaced.append(before) }
    rows.memory = grown
    rows.count = count
  }
}

/// A view of a rotation table for the kernels: `[position][cosines, sines]`, or nothing.
struct Rotations {
  let table: UnsafeMutablePointer<Float>?
  /// Rows of the multiples of `RotationTable.rowLimit`; nil where no position goes so far.
  let coarse: UnsafeMutablePointer<Float>?
  let half: Int

  static var none: Rotations { Rotations(table: nil, coarse: nil, half: 0) }

  /// Floats of a row.
  var width: Int { 2 * half }
  /// Floats that `tile` may need for 64 positions.
  var tileSize: Int { coarse == nil ? 0 : 64 * width }

  /// The row of a position, in the table or put together in `memory`, of `width` floats.
  func row(_ position: Int, _ memory: UnsafeMutablePointer<Float>) -> UnsafePointer<Float>? {
    guard let table else { return nil }
    guard let coarse, position >= RotationTable.rowLimit else {
      return UnsafePointer(table + position * width)
    }
    let (far, near) = position.quotientAndRemainder(dividingBy: RotationTable.rowLimit)
    let (a, b) = (coarse + far * width, table + near * width)
    // Angles add up where rotations are multiplied.
    for i in 0..<half {
      memory[i] = a[i] * b[i] - a[half + i] * b[half + i]
      memory[half + i] = a[half + i] * b[i] + a[i] * b[half + i]
    }
    return UnsafePointer(memory)
  }

  /// The rows of `count` positions: the table, or, where one lies beyond it, rows of their own in `memory`;
  /// the positions then become places there.
  func tile(
    _ positions: UnsafeMutablePointer<Int32>, _ count: Int, _ memory: UnsafeMutablePointer<Float>
  ) -> UnsafePointer<Float>? {
    guard let table else { return nil }
    guard coarse != nil,
      (0..<count).contains(where: { positions[$0] >= RotationTable.rowLimit })
    else { return UnsafePointer(table) }
    for column in 0..<count {
      let place = memory + column * width
      if let row = row(Int(positions[column]), place), row != UnsafePointer(place) {
        place.update(from: row, count: width)
      }
      positions[column] = Int32(column)
    }
    return UnsafePointer(memory)
  }
}
