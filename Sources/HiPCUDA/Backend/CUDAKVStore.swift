// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPKVStore

/// Blocks as pages of pools, one pool of keys and one of values for each layer, that grow as they are needed.
///
/// A page holds a block, `[kvHead][blockSize][headSize]`. Where the format keeps means of 32 keys, they lie beside:
/// `[kvHead][page][mean][headSize]` bytes and `[kvHead][page]` pairs of scales. Other sketches are not kept: what scans
/// them computes them from the keys.
final class CUDAKVStore: KVStore {
  let format: KVFormat
  private let memory: DeviceMemory
  private let stream: CUDAStream
  private let status: StepStatus
  private(set) var layers: [Pools] = []
  /// Pages that the pools have.
  private(set) var pageCount = 0
  /// Page of each block; -1: none.
  private var pages: [Int32] = []
  /// Pages that no block has, the lowest last.
  private var free: [Int32] = []

  /// The memory of one layer.
  struct Pools {
    let keys, values: CUDABuffer
    /// Nil where no means are kept.
    let means, scales: CUDABuffer?
  }

  init(
    _ format: KVFormat, _ memory: DeviceMemory, _ stream: CUDAStream, _ status: StepStatus
  ) {
    self.format = format
    self.status = status
    self.memory = memory
    self.stream = stream
  }

  var paged: (any PagedStore)? { nil }

  /// Whether there are kernels that scan means, and a policy that wants them.
  var keepsMeans: Bool {
    format.sketches.contains(.means(ofKeys: PagedKeys.keysPerMean))
      && PrefillAttention.supports(format.shape, format.element, on: memory.device.facts)
  }

  /// Bytes of a page in one pool.
  private var pageByteCount: Int { format.rowsByteCount / 2 }
  private var meansByteCount: Int {
    format.blockSize / PagedKeys.keysPerMean * format.shape.headSize
  }
  private static let scalesByteCount = 4

  func provide(_ blocks: [BlockID]) throws(ComputeError) {
    status.settle()
    if blocks.count > free.count {
      // A quarter more, so that a text which grows block by block is seldom moved.
      let missing = blocks.count - free.count
      try grow(to: pageCount + max(missing, min(pageCount / 4, 1024)))
    }
    for block in blocks {
      while pages.count <= block.index { pages.append(-1) }
      precondition(pages[block.index] < 0, "block \(block.index) has its page already")
      pages[block.index] = free.removeLast()
    }
  }

  private func grow(to count: Int) throws(ComputeError) {
    var grown: [Pools] = []
    for layer in 0..<format.layerCount {
      func pool(_ byteCount: Int) throws(ComputeError) -> CUDABuffer {
        let buffer = try memory.allocate(byteCount: count * byteCount)
        // Keys behind the last one have weight 0, and 0 times what is not a number is not 0.
        try stream.fill(buffer.all, with: 0)
        return buffer
      }
      let heads = format.shape.kvHeads
      let hasMeans = keepsMeans && format.keepsSketches(layer)
      let new = Pools(
        keys: try pool(pageByteCount), values: try pool(pageByteCount),
        means: hasMeans ? try pool(heads * meansByteCount) : nil,
        scales: hasMeans ? try pool(heads * Self.scalesByteCount) : nil)
      if pageCount > 0 {
        let old = layers[layer]
        let rows = 0..<pageCount * pageByteCount
        try stream.copy(old.keys[rows], to: new.keys[rows])
        try stream.copy(old.values[rows], to: new.values[rows])
        try move(old.means, to: new.means, bytes: meansByteCount, count)
        try move(old.scales, to: new.scales, bytes: Self.scalesByteCount, count)
      }
      grown.append(new)
    }
    layers = grown
    free = (pageCount..<count).reversed().map { Int32($0) } + free
    pageCount = count
  }

  /// Head by head, since the pages of a head lie together.
  private func move(
    _ old: CUDABuffer?, to new: CUDABuffer?, bytes: Int, _ count: Int
  ) throws(ComputeError) {
    guard let old, let new else { return }
    for head in 0..<format.shape.kvHeads {
      let (from, to) = (head * pageCount * bytes, head * count * bytes)
      let size = pageCount * bytes
      try stream.copy(old[from..<from + size], to: new[to..<to + size])
    }
  }

  func discard(_ block: BlockID) {
    guard pages.indices.contains(block.index), pages[block.index] >= 0 else { return }
    status.settle()
    free.append(pages[block.index])
    pages[block.index] = -1
  }

  /// Pools are taken as a whole: nothing can be given back of them.
  func releaseSliding(_ block: BlockID) {}

  func copy(from source: BlockID, to destination: BlockID) throws(ComputeError) {
    status.settle()
    let (from, to) = (Int(page(of: source)), Int(page(of: destination)))
    func copy(
      _ buffer: CUDABuffer?, _ bytes: Int, first: Int = 0
    ) throws(ComputeError) {
      guard let buffer else { return }
      let (old, new) = ((first + from) * bytes, (first + to) * bytes)
      try stream.copy(buffer[old..<old + bytes], to: buffer[new..<new + bytes])
    }
    for pools in layers {
      try copy(pools.keys, pageByteCount)
      try copy(pools.values, pageByteCount)
      for head in 0..<format.shape.kvHeads {
        try copy(pools.means, meansByteCount, first: head * pageCount)
        try copy(pools.scales, Self.scalesByteCount, first: head * pageCount)
      }
    }
  }

  func page(of block: BlockID) -> Int32 {
    let page = pages[block.index]
    precondition(page >= 0, "block \(block.index) has no page")
    return page
  }

  /// Where the tuned kernels find a layer.
  func pagedKeys(_ layer: Int) -> PagedKeys {
    let pools = layers[layer]
    return PagedKeys(
      keys: pools.keys.address, values: pools.values.address, means: pools.means?.address ?? 0,
      meanScales: pools.scales?.address ?? 0, pageCount: pageCount, shape: format.shape,
      element: format.element)
  }

  func makeTable() -> any DeviceBlockTable { CUDABlockTable(self, memory, status) }

  func makeSelectionState() -> any SelectionState {
    CUDASelectionState(
      memory, stream, layerCount: format.layerCount, onFailure: { [status] in status.take($0) },
      settle: { [status] in status.settle() })
  }

  func makeHeavyHitterState() -> any HeavyHitterState {
    CUDAHeavyHitterState(memory, stream, layerCount: format.layerCount)
  }
}
