// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
package import HiPCompute

/// Memory that the launchers of one stream work in, kept from call to call: after the first call of a shape nothing is
/// allocated and nothing is uploaded, so that graphs can capture the calls.
///
/// Buffers only grow. A graph has their addresses: it is good as long as `generation` stays what it was when the graph
/// was captured, and it keeps `owned`.
package final class Workspace {
  package let memory: DeviceMemory
  /// Changes whenever memory that a graph may know of was replaced.
  package private(set) var generation = 0
  private var buffers: [String: CUDABuffer] = [:]
  private var lists: [AnyHashable: List] = [:]
  private var maps: [MapKey: TensorMap] = [:]
  private var clock = 0
  private var staging: PinnedBuffer?
  private var stagingIsFree: CUDAEvent?

  private struct List {
    let buffer: CUDABuffer?
    let count: Int
    var lastUse: Int
  }

  private struct MapKey: Hashable {
    let address: UInt64
    let layout: TensorMap.Layout
  }

  /// Lists that are kept, and maps.
  private static let listLimit = 64, mapLimit = 4096

  package init(_ memory: DeviceMemory) { self.memory = memory }

  /// All that a captured graph must keep.
  package var owned: [AnyObject] {
    buffers.values.map { $0 as AnyObject } + lists.values.compactMap { $0.buffer }
  }

  /// The device's address of memory of that name, of at least so many bytes, which hold what the last one who asked
  /// for the name left there.
  /// - Parameter isZeroed: fills it with zeros when it is made.
  /// - Throws: `device` while a graph is captured, unless it is there already.
  package func address(
    _ name: String, byteCount: Int, isZeroed: Bool = false, on stream: CUDAStream
  ) throws(ComputeError) -> UInt64 {
    if let buffer = buffers[name], buffer.byteCount >= byteCount { return buffer.address }
    try refuseCapture("memory for \(name)")
    let isReplaced = buffers.removeValue(forKey: name) != nil
    let buffer = try memory.allocate(byteCount: max(byteCount, 16))
    if isZeroed { try stream.fill(buffer.all, with: 0) }
    buffers[name] = buffer
    if isReplaced { generation += 1 }
    return buffer.address
  }

  /// The device's address of a list that the host makes, once for every key, and how many elements it has.
  /// - Throws: `device` while a graph is captured, unless it is there already.
  package func list<Key: Hashable, Element: BitwiseCopyable>(
    _ key: Key, on stream: CUDAStream, _ make: () -> [Element]
  ) throws(ComputeError) -> (address: UInt64, count: Int) {
    clock += 1
    let key = AnyHashable(key)
    if let list = lists[key] {
      lists[key]?.lastUse = clock
      return (list.buffer?.address ?? 0, list.count)
    }
    try refuseCapture("a list")
    if lists.count >= Self.listLimit,
      let oldest = lists.min(by: { $0.value.lastUse < $1.value.lastUse })
    {
      lists[oldest.key] = nil
      generation += 1
    }
    let elements = make()
    var buffer: CUDABuffer?
    if !elements.isEmpty { buffer = try upload(elements, on: stream) }
    lists[key] = List(buffer: buffer, count: elements.count, lastUse: clock)
    return (buffer?.address ?? 0, elements.count)
  }

  /// A graph would have addresses of what it does not keep, and each of its replays would fill it anew.
  private func refuseCapture(_ what: String) throws(ComputeError) {
    guard !memory.device.isCapturing else {
      throw ComputeError(
        .device,
        "\(what) would be made while a graph is captured; this is a mistake in the program: make the call once before"
      )
    }
  }

  private func upload<Element: BitwiseCopyable>(
    _ elements: [Element], on stream: CUDAStream
  ) throws(ComputeError) -> CUDABuffer {
    let byteCount = elements.count * MemoryLayout<Element>.stride
    let buffer = try memory.allocate(byteCount: byteCount)
    let staging = try freeStaging(byteCount: byteCount)
    unsafe elements.withUnsafeBytes { unsafe staging.bytes.copyMemory(from: $0) }
    try stream.copy(staging[0..<byteCount], to: buffer.all)
    if stagingIsFree == nil { stagingIsFree = try CUDAEvent(memory.device) }
    if let stagingIsFree { try stream.record(stagingIsFree) }
    return buffer
  }

  /// Pinned memory that no copy reads any more.
  private func freeStaging(byteCount: Int) throws(ComputeError) -> PinnedBuffer {
    try stagingIsFree?.wait()
    if let staging, unsafe staging.bytes.count >= byteCount { return staging }
    let made = try memory.allocatePinned(byteCount: max(byteCount, 1 << 16))
    staging = made
    return made
  }

  /// A map of the pool at `address`, boxes of so many keys and 128 bytes.
  func map(
    of address: UInt64, _ keys: PagedKeys, rows: Int, _ device: CUDADevice
  ) throws(ComputeError) -> TensorMap {
    let layout = TensorMap.Layout(
      element: keys.element,
      sizes: [keys.shape.headSize, keys.pageCount * keys.shape.kvHeads * PagedKeys.pageSize],
      strides: [2 * keys.shape.headSize], box: [64, rows], swizzle: .bytes128)
    let key = MapKey(address: address, layout: layout)
    if let map = maps[key] { return map }
    if maps.count >= Self.mapLimit { maps = [:] }
    let map = try TensorMap(layout, at: address, on: device)
    maps[key] = map
    return map
  }

  /// Gives all of it back, as after an error that leaves counters in the midst of something.
  package func clear() {
    buffers = [:]
    lists = [:]
    generation += 1
  }
}
