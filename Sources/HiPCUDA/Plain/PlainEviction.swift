// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
package import HiPCompute
internal import HiPTensors

extension PlainKernels {
  /// Attention under H2O: blocks of queries one after the other, since each decides what the next one still finds.
  func attendEvicting(
    _ item: AttendCall.Item, layer: Int, _ hitters: HeavyHitters, _ state: CUDAHeavyHitterState,
    _ keys: PlainKeys, on stream: CUDAStream
  ) throws(ComputeError) {
    let (shape, element, query) = (
      item.input.shape, keys.element, item.input.queries.element
    )
    let queryBlock = HeavyHitters.queryBlock
    for first in stride(from: 0, to: item.input.queries.rows, by: queryBlock) {
      let rows = first..<min(first + queryBlock, item.input.queries.rows)
      let kept =
        state.layers[layer]
        ?? KeptKeys(keys: nil, masses: nil, count: item.input.start + first, capacity: 0)
      let logSums = try memory.allocate(byteCount: 8 * rows.count * shape.heads)
      var call = try call(item, rows: rows, keys, on: stream)
      call.reach = Int32(IHP_PLAIN_KEPT_REACH)
      call.query_block = Int32(queryBlock)
      call.kept = kept.keys?.address ?? 0
      call.kept_count = Int32(clamping: kept.count)
      call.kept_capacity = Int32(clamping: kept.capacity)
      call.log_sums = logSums.address
      try launch(call, keys, item.input, on: stream)

      let total = kept.count + rows.count
      let next = min(total, hitters.budget)
      let real = realByteCount(element)
      let placed = try memory.allocate(
        byteCount: real * rows.count * shape.heads * shape.headSize)
      let all = try KeptKeys(memory, shape, count: total)
      let stays = total > next ? try KeptKeys(memory, shape, count: next) : all
      let evict = ihp_plain_evict(
        input: call.input, rows: placed.address, log_sums: logSums.address,
        kept: call.kept, masses: kept.masses?.address ?? 0, keys: all.keys?.address ?? 0,
        drawn: all.masses?.address ?? 0, next_keys: stays.keys?.address ?? 0,
        next_masses: stays.masses?.address ?? 0, kept_count: call.kept_count,
        kept_capacity: call.kept_capacity, capacity: Int32(clamping: total),
        next_count: Int32(clamping: next), next_capacity: Int32(clamping: stays.capacity),
        recent: Int32(clamping: hitters.recent))
      func kernel(_ name: String) throws(ComputeError) -> CUDAKernel {
        try self.kernel(name, of: "plain_evict.cu", element, query)
      }
      try kernel("plain_place").launch(
        LaunchShape(
          grid: LaunchShape.Extent(rows.count, shape.heads), block: LaunchShape.Extent(32)),
        on: stream, evict)
      let columns = Int(IHP_PLAIN_COLUMNS)
      try kernel("plain_weigh").launch(
        LaunchShape(
          grid: LaunchShape.Extent((total + columns - 1) / columns, shape.kvHeads),
          block: LaunchShape.Extent(256), sharedByteCount: real * tileSize(shape)), on: stream,
        evict)
      if total > next {
        try kernel("plain_evict").launch(
          LaunchShape(
            grid: LaunchShape.Extent(shape.kvHeads), block: LaunchShape.Extent(1024)), on: stream,
          evict)
      }
      state.layers[layer] = stays
    }
  }
}

/// The keys that a layer of a sequence holds under H2O.
struct KeptKeys {
  /// `[kvHead][capacity]`, ascending 32-bit integers; nil: all keys, of which nothing is known yet.
  let keys: CUDABuffer?
  /// What each has drawn, `[kvHead][capacity]`, 32-bit.
  let masses: CUDABuffer?
  let count, capacity: Int

  init(keys: CUDABuffer?, masses: CUDABuffer?, count: Int, capacity: Int) {
    self.keys = keys
    self.masses = masses
    self.count = count
    self.capacity = capacity
  }

  /// Room for some keys.
  init(_ memory: DeviceMemory, _ shape: AttentionShape, count: Int) throws(ComputeError) {
    keys = try memory.allocate(byteCount: 4 * shape.kvHeads * count)
    masses = try memory.allocate(byteCount: 4 * shape.kvHeads * count)
    self.count = count
    capacity = count
  }
}

/// The keys that one sequence holds under H2O, layer by layer; nil before a layer's first step.
package final class CUDAHeavyHitterState: HeavyHitterState {
  /// What one has is never written again, so that copies share it.
  var layers: [KeptKeys?]

  package init(_ memory: DeviceMemory, _ stream: CUDAStream, layerCount: Int) {
    layers = .init(repeating: nil, count: layerCount)
  }

  private init(_ layers: [KeptKeys?]) { self.layers = layers }

  package func copy() -> any HeavyHitterState { CUDAHeavyHitterState(layers) }

  package func clear() { layers = .init(repeating: nil, count: layers.count) }
}

extension HeavyHitterState {
  var onCUDA: CUDAHeavyHitterState {
    precondition(
      type(of: self) == CUDAHeavyHitterState.self,
      "a state of another device was given to the GPU")
    return unsafe unsafeDowncast(self, to: CUDAHeavyHitterState.self)
  }
}
