// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPTensors
import Synchronization

/// What a device has taken, and what it could not get: counted by all its threads.
final class MemoryLedger: Sendable {
  /// Times that memory was taken.
  let allocations = Atomic<Int>(0)
  /// What went wrong first since this was last asked for.
  private let failure = Mutex<ComputeError?>(nil)

  func countAllocation() { allocations.add(1, ordering: .relaxed) }
  func countFailure(_ error: MemoryError) { countFailure(ComputeError(error)) }
  func countFailure(_ error: ComputeError) { failure.withLock { $0 = $0 ?? error } }

  /// Whether something went wrong since this was last asked for.
  var hasFailure: Bool { failure.withLock { $0 != nil } }

  /// The failure since this was last asked for.
  func takeFailure() -> ComputeError? {
    failure.withLock { failure in
      defer { failure = nil }
      return failure
    }
  }
}

/// Working memory of one thread: grows to the largest need and stays.
final class Scratch {
  private let ledger: MemoryLedger
  private var buffer: HostBuffer<Float>?
  private var start: UnsafeMutablePointer<Float>?
  private var capacity = 0
  /// How much is taken; setting it back frees what was taken since.
  var mark = 0

  init(_ ledger: MemoryLedger) { self.ledger = ledger }

  /// Starts anew with room for `count` floats; what was taken before is void.
  /// - Returns: false when there is no such memory. The step is then void, and `submit` says so.
  func reset(_ count: Int) -> Bool {
    mark = 0
    guard capacity == 0 || capacity < count else { return true }
    let grown = max(1024, count + count / 4)
    do {
      buffer = nil
      (start, capacity) = (nil, 0)
      let grownBuffer = try HostBuffer<Float>(count: grown)
      start = grownBuffer.elements.baseAddress
      buffer = consume grownBuffer
      capacity = grown
      ledger.countAllocation()
      return true
    } catch {
      ledger.countFailure(error)
      return false
    }
  }

  /// The next `count` floats, 64-byte aligned, contents undefined.
  func take(_ count: Int) -> UnsafeMutablePointer<Float> {
    let taken = mark
    mark += (count + 15) / 16 * 16
    guard let start, mark <= capacity else {
      preconditionFailure("scratch memory was reset too small")
    }
    return start + taken
  }

  /// The next `count` 32-bit integers.
  func takeIntegers(_ count: Int) -> UnsafeMutablePointer<Int32> {
    UnsafeMutableRawPointer(take(count)).assumingMemoryBound(to: Int32.self)
  }

  /// What `take(count)` uses up.
  static func size(_ count: Int) -> Int { (count + 15) / 16 * 16 }
}
