// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute

/// The tables of batches in the device's memory: each batch has its own, which is brought up to date in place, so that
/// a graph that was captured at one length runs at another.
final class BatchTables {
  private let memory: DeviceMemory
  private var batches: [[ObjectIdentifier]: Batch] = [:]
  private var clock = 0

  /// Batches that are kept.
  private static let limit = 64

  private struct Batch {
    let tables: [Member]
    var counts: [Int32] = []
    var versions: [Int] = []
    var stride = 0
    var countBuffer: CUDABuffer?
    var pageBuffer: CUDABuffer?
    var lastUse = 0
  }

  /// A table, which goes with its sequence: another one may then have its identifier.
  private struct Member {
    weak var table: CUDABlockTable?
  }

  init(_ memory: DeviceMemory) { self.memory = memory }

  /// What a captured graph must keep.
  var owned: [AnyObject] {
    batches.values.flatMap { [$0.countBuffer, $0.pageBuffer].compactMap { $0 } }
  }

  /// The tables of sequences, with the keys that they hold now.
  func tables(
    _ sequences: [(table: CUDABlockTable, keyCount: Int)], on stream: CUDAStream
  ) throws(ComputeError) -> SequenceTables {
    let tables = sequences.map(\.table)
    let key = tables.map { ObjectIdentifier($0) }
    clock += 1
    var batch = Batch(tables: tables.map { Member(table: $0) })
    if let known = batches[key], zip(known.tables, tables).allSatisfy({ $0.table === $1 }) {
      batch = known
    }
    batch.lastUse = clock
    let counts = sequences.map { Int32(clamping: $0.keyCount) }
    if counts != batch.counts {
      batch.countBuffer = try uploaded(counts, batch.countBuffer, on: stream)
      batch.counts = counts
    }
    let pages: UInt64
    let stride: Int
    if sequences.count == 1 {
      pages = try tables[0].uploaded(on: stream).address
      stride = tables[0].pages.count
    } else {
      let versions = tables.map(\.version)
      if versions != batch.versions {
        let longest = tables.map(\.pages.count).max() ?? 0
        // Room for a quarter more, so that it stays where it is while texts grow.
        if longest > batch.stride { batch.stride = longest * 5 / 4 + 1 }
        let all = tables.flatMap {
          $0.pages + [Int32](repeating: 0, count: batch.stride - $0.pages.count)
        }
        batch.pageBuffer = try uploaded(all, batch.pageBuffer, on: stream)
        batch.versions = versions
      }
      pages = batch.pageBuffer?.address ?? 0
      stride = batch.stride
    }
    if batches[key] == nil {
      batches = batches.filter { $0.value.tables.allSatisfy { $0.table != nil } }
      if batches.count >= Self.limit,
        let oldest = batches.min(by: { $0.value.lastUse < $1.value.lastUse })
      {
        batches[oldest.key] = nil
      }
    }
    batches[key] = batch
    return SequenceTables(
      pages: pages, stride: stride, keyCounts: batch.countBuffer?.address ?? 0,
      sequenceCount: sequences.count)
  }

  private func uploaded(
    _ numbers: [Int32], _ buffer: CUDABuffer?, on stream: CUDAStream
  ) throws(ComputeError) -> CUDABuffer {
    let room: CUDABuffer
    if let buffer, buffer.byteCount >= 4 * numbers.count {
      room = buffer
    } else {
      room = try memory.allocate(byteCount: 4 * max(1, numbers.count))
    }
    try stream.uploadElements(numbers, to: room)
    return room
  }
}
