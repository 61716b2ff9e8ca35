// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPCompute

/// The memory of a device, handed out in buffers and kept for reuse.
///
/// What goes back may be handed out again at once: buffers are for the work of one stream, in order. Whoever uses one
/// on another stream holds it until that stream has been waited for.
package final class DeviceMemory {
  package let device: CUDADevice
  package private(set) var account = MemoryAccount()
  /// Addresses that nobody uses, by the bytes behind them.
  private var free: [Int: [UInt64]] = [:]

  package init(_ device: CUDADevice) { self.device = device }

  deinit { trim() }

  /// A buffer of the device's memory; its contents are undefined.
  /// - Throws: `outOfMemory` when there is no room even after what was kept has been given back.
  package func allocate(byteCount: Int) throws(ComputeError) -> CUDABuffer {
    precondition(byteCount >= 0)
    guard let size = SizeClass.byteCount(for: byteCount) else { throw full(byteCount) }
    let address: UInt64
    if let kept = takeFree(size) {
      address = kept
    } else {
      address = try take(size, for: byteCount)
    }
    account.bufferCount += 1
    account.requestedByteCount += byteCount
    account.usedByteCount += size
    account.peakByteCount = max(account.peakByteCount, account.reservedByteCount)
    return CUDABuffer(self, address: address, byteCount: byteCount, size: size)
  }

  private func takeFree(_ size: Int) -> UInt64? {
    guard let address = free[size]?.popLast() else { return nil }
    account.cachedByteCount -= size
    return address
  }

  /// Asks the driver, which is to be done before anything is timed or captured.
  private func take(_ size: Int, for byteCount: Int) throws(ComputeError) -> UInt64 {
    guard !device.isCapturing else {
      throw ComputeError(
        .device,
        "\(byteCount) bytes were asked for while a graph was captured; this is a mistake in the program"
      )
    }
    var address: UInt64 = 0
    func ask() throws(ComputeError) -> Int32 {
      try device.attempt("cuMemAlloc") { unsafe $0.pointee.memory_allocate(&address, size) }
    }
    var result = try ask()
    if result == Int32(IHP_CU_OUT_OF_MEMORY), account.cachedByteCount > 0 {
      trim()
      result = try ask()
    }
    guard result != Int32(IHP_CU_OUT_OF_MEMORY) else {
      throw full(byteCount, cause: device.driver.failure(result, "cuMemAlloc"))
    }
    guard result == 0 else {
      throw device.driver.failure(result, "cuMemAlloc").error(device: device.facts.name)
    }
    account.allocations += 1
    return address
  }

  private func full(_ byteCount: Int, cause: CUDAFailure? = nil) -> ComputeError {
    func text(_ count: Int) -> String { "\((count - 1) >> 20 + 1) MB" }
    let available =
      (try? device.availableByteCount()).map { ", of which \(text($0)) are free" } ?? ""
    return ComputeError(
      .outOfMemory(neededBytes: byteCount),
      "the GPU (\(device.facts.name)) has no \(text(byteCount)) more: it has \(text(device.facts.memoryByteCount))"
        + "\(available), and \(text(account.usedByteCount)) are in use here; close other programs on it, or shorten the text",
      cause: cause)
  }

  /// Takes a buffer's memory back.
  func giveBack(_ address: UInt64, byteCount: Int, size: Int) {
    account.bufferCount -= 1
    account.requestedByteCount -= byteCount
    account.usedByteCount -= size
    account.cachedByteCount += size
    free[size, default: []].append(address)
  }

  /// Gives the driver back what nobody uses, which waits for the device; not while a graph is captured.
  package func trim() {
    guard !device.isCapturing else { return }
    for (_, addresses) in free {
      for address in addresses {
        device.release("cuMemFree") { unsafe $0.pointee.memory_free(address) }
      }
    }
    free = [:]
    account.cachedByteCount = 0
  }

  /// Memory of the process that the device reads and writes itself, zeroed.
  ///
  /// Taking it and giving it back wait for the device: for what lives as long as an engine.
  package func allocatePinned(byteCount: Int) throws(ComputeError) -> PinnedBuffer {
    precondition(byteCount >= 0)
    let buffer = try PinnedBuffer(self, byteCount: byteCount)
    account.allocations += 1
    account.pinnedByteCount += byteCount
    return buffer
  }

  func countFreedPinned(_ byteCount: Int) { account.pinnedByteCount -= byteCount }
}
