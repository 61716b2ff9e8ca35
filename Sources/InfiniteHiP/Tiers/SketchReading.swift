// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import HiPKVFiles
internal import Synchronization

/// Sketches of many segments, read by several threads and handed on in order.
enum SketchReading {
  /// Segments that are read at once: as many as a disk serves well side by side.
  private static let together = 16

  /// Calls `use` for each segment; what it gets is valid during the call.
  static func read(
    _ segments: [StoredSegment],
    use: (_ index: Int, Result<UnsafeRawBufferPointer, KVFileError>) -> Void
  ) {
    guard let shape = segments.first?.shape else { return }
    let stride = max(1, shape.blocksPerSegment * shape.sketchByteCount)
    let memory = UnsafeMutableRawBufferPointer.allocate(
      byteCount: together * stride, alignment: 64)
    defer { unsafe memory.deallocate() }
    for first in Swift.stride(from: 0, to: segments.count, by: together) {
      let part = Array(segments[first..<min(first + together, segments.count)])
      // The disk goes on while these are put where they belong.
      for segment in segments.dropFirst(first + together).prefix(2 * together) {
        segment.prefetchSketches()
      }
      let failures = Mutex<[Int: KVFileError]>([:])
      // Each iteration writes its own part.
      nonisolated(unsafe) let memory = unsafe memory
      @Sendable func room(_ index: Int) -> UnsafeMutableRawBufferPointer {
        unsafe UnsafeMutableRawBufferPointer(
          rebasing: memory[
            index * stride..<index * stride + part[index].blockCount * shape.sketchByteCount])
      }
      DispatchQueue.concurrentPerform(iterations: part.count) { index in
        do throws(KVFileError) {
          try unsafe part[index].readSketches(into: room(index))
        } catch {
          failures.withLock { $0[index] = error }
        }
      }
      let failed = failures.withLock { $0 }
      for index in part.indices {
        if let failure = failed[index] {
          unsafe use(first + index, .failure(failure))
        } else {
          unsafe use(first + index, .success(UnsafeRawBufferPointer(room(index))))
        }
      }
    }
  }
}
