// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
public import HiPCompute

extension CPUBackend {
  /// Writes keys and values into the pages and completes their sketches.
  public func append(_ call: AppendCall) {
    let pages = unsafeDowncast(call.into.pages, to: CPUPageTable.self)
    let layout = pages.store.layout
    let shape = layout.shape
    let tokens = call.keys.rows
    let grain = 16
    pool.run((tokens + grain - 1) / grain) { item, _ in
      for row in item * grain..<min(tokens, (item + 1) * grain) {
        let key = call.keys.floats(row: row)
        if call.order == .interleaved {
          if let queries = call.queries {
            separate(queries.floats(row: row), heads: shape.heads, call, shape)
          }
          separate(key, heads: shape.kvHeads, call, shape)
        }
        for head in 0..<shape.kvHeads {
          let start = head * shape.headSize
          write(
            key + start, to: pages, layout.keyOffset(layer: call.into.layer, kvHead: head),
            row: call.start + row)
          quantize(key + start, to: pages, call.into.layer, head, row: call.start + row)
          write(
            call.values.floats(row: row) + start, to: pages,
            layout.valueOffset(layer: call.into.layer, kvHead: head), row: call.start + row)
        }
      }
    }
    for case .moments(let chunkSize) in layout.sketches {
      // Chunks that the new tokens complete.
      let chunks = call.start / chunkSize..<(call.start + tokens) / chunkSize
      pool.run(chunks.count * shape.kvHeads) { item, thread in
        sketch(
          chunk: chunks.lowerBound + item / shape.kvHeads, of: chunkSize,
          kvHead: item % shape.kvHeads, call.into, thread: thread)
      }
    }
  }

  /// Brings elements 2i and 2i + 1 of each head to i and half + i.
  private func separate(
    _ row: UnsafeMutablePointer<Float>, heads: Int, _ call: AppendCall, _ shape: AttentionShape
  ) {
    let half = call.rotaryDimensions / 2
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * half) { copy in
      for head in 0..<heads {
        let start = row + head * shape.headSize
        for index in 0..<2 * half { copy[index] = start[index] }
        for index in 0..<half {
          start[index] = copy[2 * index]
          start[half + index] = copy[2 * index + 1]
        }
      }
    }
  }

  private func write(
    _ row: UnsafePointer<Float>, to pages: CPUPageTable, _ offset: Int, row index: Int
  ) {
    let layout = pages.store.layout
    let (slot, inside) = index.quotientAndRemainder(dividingBy: KVLayout.pageSize)
    guard let page = pages.addresses[slot] else { return }
    table.narrow(
      layout.element.kernelElement, row, layout.shape.headSize,
      UnsafeMutableRawPointer(mutating: page) + offset + inside * layout.rowByteCount)
  }

  /// Keeps a key in 4 bits, where the layout has those.
  private func quantize(
    _ key: UnsafePointer<Float>, to pages: CPUPageTable, _ layer: Int, _ kvHead: Int, row index: Int
  ) {
    let layout = pages.store.layout
    let (slot, inside) = index.quotientAndRemainder(dividingBy: KVLayout.pageSize)
    guard let offset = layout.sketchOffset(layer: layer, kvHead: kvHead, .fourBit),
      let page = pages.addresses[slot]
    else { return }
    let (group, place) = inside.quotientAndRemainder(dividingBy: KVLayout.groupSize)
    table.quantize_key(
      key, layout.shape.headSize,
      UnsafeMutablePointer(mutating: page) + offset + group * layout.groupByteCount(.fourBit), place
    )
  }

  private func sketch(
    chunk: Int, of chunkSize: Int, kvHead: Int, _ view: KVView, thread: Int
  ) {
    let pages = unsafeDowncast(view.pages, to: CPUPageTable.self)
    let layout = pages.store.layout
    let size = layout.shape.headSize
    let kind = KeySketch.moments(chunkSize: chunkSize)
    guard let offset = layout.sketchOffset(layer: view.layer, kvHead: kvHead, kind) else { return }
    let scratch = scratch(thread)
    scratch.reset(2 * Scratch.size(size))
    let mean = scratch.take(size)
    let variance = scratch.take(size)
    let start = chunk * chunkSize
    withRows(view, offset: layout.keyOffset(layer: view.layer, kvHead: kvHead)) { keys in
      table.moments(&keys, start, chunkSize, size, mean, variance)
    }
    guard let page = pages.addresses[start / KVLayout.pageSize] else { return }
    let (group, place) = (start % KVLayout.pageSize / chunkSize).quotientAndRemainder(
      dividingBy: KVLayout.groupSize)
    table.quantize_moments(
      mean, variance, size,
      UnsafeMutablePointer(mutating: page) + offset + group * layout.groupByteCount(kind), place)
  }

  /// Calls `body` with the rows of one head at `offset` in the pages, one per token.
  func withRows<Result>(
    _ view: KVView, offset: Int, _ body: (inout hip_rows) -> Result
  ) -> Result {
    let layout = unsafeDowncast(view.pages, to: CPUPageTable.self).store.layout
    return withRows(
      view, offset: offset, rowsPerPage: KVLayout.pageSize, stride: layout.rowByteCount,
      element: layout.element.kernelElement, body)
  }

  /// Calls `body` with rows that stand `rowsPerPage` to a page, `stride` bytes apart; without
  /// `element` they are rows of bytes.
  func withRows<Result>(
    _ view: KVView, offset: Int, rowsPerPage: Int, stride: Int, element: hip_element = HIP_F32,
    _ body: (inout hip_rows) -> Result
  ) -> Result {
    let pages = unsafeDowncast(view.pages, to: CPUPageTable.self)
    return pages.addresses.withUnsafeBufferPointer { addresses in
      var rows = hip_rows(
        pages: addresses.baseAddress, page_shift: UInt32(rowsPerPage.trailingZeroBitCount),
        element: element, offset: offset, stride: stride)
      return body(&rows)
    }
  }
}
