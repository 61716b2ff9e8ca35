// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
public import HiPCompute

extension CPUBackend {
  /// Stores keys and values in the sequences' blocks and completes their sketches.
  public func append(_ call: AppendCall) {
    let grain = 16
    // Runs of rows of one sequence, so that few tokens of many sequences make one loop.
    let written = call.batch.map { part in
      part.table.onCPU.open(part.start..<part.start + part.rows.count, layer: call.layer)
    }
    let runs = zip(call.batch, written).flatMap { part, written in
      stride(from: part.rows.lowerBound, to: part.rows.upperBound, by: grain).map {
        (part, written, $0..<min($0 + grain, part.rows.upperBound))
      }
    }
    pool.run(runs.count) { item, _ in
      let (part, written, rows) = runs[item]
      let blocks = part.table.onCPU
      for row in rows {
        append(row, at: part.start + row - part.rows.lowerBound, to: blocks, written, call)
      }
    }
    for (part, written) in zip(call.batch, written)
    where part.table.onCPU.store.format.keepsSketches(call.layer) {
      let blocks = part.table.onCPU
      let kvHeads = blocks.store.format.shape.kvHeads
      if let index = blocks.store.format.sketches.firstIndex(of: .means(ofKeys: Self.keysPerMean)) {
        let size = Self.keysPerMean
        // Those that the new tokens complete.
        let means = part.start / size..<(part.start + part.rows.count) / size
        pool.run(means.count * kvHeads) { item, thread in
          sketch(
            means.lowerBound + item / kvHeads, kvHead: item % kvHeads, call.layer, blocks, written,
            index, scratch(thread))
        }
      }
    }
  }

  private func append(
    _ row: Int, at position: Int, to blocks: CPUBlockTable, _ written: WrittenBlocks,
    _ call: AppendCall
  ) {
    let format = blocks.store.format
    let size = format.shape.headSize
    let (key, value) = (call.keys.floats(row: row), call.values.floats(row: row))
    let width = format.shape.kvHeads * size
    // What is stored in few bits would hide it.
    if table.is_finite(key, width) == 0 || table.is_finite(value, width) == 0 {
      countFault(row: row, layer: call.layer)
    }
    if call.order == .interleaved {
      if let queries = call.queries {
        separate(queries.floats(row: row), heads: queries.columns / size, size, call)
      }
      separate(key, heads: format.shape.kvHeads, size, call)
    }
    let element = format.element.kernelElement
    for head in 0..<format.shape.kvHeads {
      let start = head * size
      if let to = written.address(.keys, kvHead: head, position: position) {
        table.narrow(element, key + start, size, to)
      }
      if let to = written.address(.values, kvHead: head, position: position) {
        table.narrow(element, value + start, size, to)
      }
      if format.keepsSketches(call.layer), let index = format.sketches.firstIndex(of: .fourBit),
        let group = blocks.group(index, layer: call.layer, kvHead: head, row: position)
      {
        table.quantize_key(key + start, size, group.address, group.place)
      }
    }
  }

  /// Brings elements 2i and 2i + 1 of each head to i and half + i.
  private func separate(
    _ row: UnsafeMutablePointer<Float>, heads: Int, _ size: Int, _ call: AppendCall
  ) {
    let half = call.rotaryDimensions / 2
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * half) { copy in
      for head in 0..<heads {
        let start = row + head * size
        for index in 0..<2 * half { copy[index] = start[index] }
        for index in 0..<half {
          start[index] = copy[2 * index]
          start[half + index] = copy[2 * index + 1]
        }
      }
    }
  }

  private func sketch(
    _ mean: Int, kvHead: Int, _ layer: Int, _ blocks: CPUBlockTable, _ written: WrittenBlocks,
    _ index: Int, _ scratch: Scratch
  ) {
    let size = blocks.store.format.shape.headSize
    guard scratch.reset(Scratch.size(size)),
      let group = blocks.group(
        index, layer: layer, kvHead: kvHead, row: KVFormat.row(ofMean: mean))
    else { return }
    let values = scratch.take(size)
    written.withKeys(kvHead: kvHead, at: mean * Self.keysPerMean) { keys, place in
      table.mean(&keys, place, Self.keysPerMean, size, values)
    }
    table.quantize_mean(values, size, group.address, group.place)
  }
}
