// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPKVStore

/// Pages of a sequence's blocks, on the host and, from the next use on, on the device.
final class CUDABlockTable: DeviceBlockTable {
  let store: CUDAKVStore
  private let memory: DeviceMemory
  private let status: StepStatus
  /// Another one whenever pages have changed.
  private(set) var version = 0
  private(set) var pages: [Int32] = []
  private var buffer: CUDABuffer?
  /// Places whose pages the device has.
  private var knownCount = 0

  init(_ store: CUDAKVStore, _ memory: DeviceMemory, _ status: StepStatus) {
    self.store = store
    self.memory = memory
    self.status = status
  }

  func set(place: Int, to block: BlockID) {
    let page = store.page(of: block)
    guard place == pages.count || pages[place] != page else { return }
    status.settle()
    version += 1
    if place == pages.count { pages.append(page) } else { pages[place] = page }
    knownCount = min(knownCount, place)
  }

  func removeLast(_ count: Int) {
    status.settle()
    version += 1
    pages.removeLast(count)
    knownCount = min(knownCount, pages.count)
  }

  /// The device's copy, brought up to date.
  func uploaded(on stream: CUDAStream) throws(ComputeError) -> CUDABuffer {
    if let buffer, knownCount == pages.count { return buffer }
    let needed = max(1, pages.count) * 4
    let target: CUDABuffer
    if let buffer, buffer.byteCount >= needed {
      target = buffer
    } else {
      target = try memory.allocate(byteCount: max(256, needed * 5 / 4 / 4 * 4))
      buffer = target
      knownCount = 0
    }
    if knownCount < pages.count {
      let new = CUDABuffer(knownCount * 4..<pages.count * 4, of: target)
      try stream.uploadElements(Array(pages[knownCount...]), to: new)
      knownCount = pages.count
    }
    return target
  }
}
