// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
public import HiPCompute
internal import HiPTensors

extension CPUBackend {
  /// So many items per thread even out the end of a loop.
  private static var itemsPerThread: Int { 4 }
  /// Rows that share a panel's packing: it is then a tenth of their products at most.
  private static var leastRowsOfPart: Int { 64 }

  /// Unpacks the weights in panels for the rows of a prefill, and streams them for those of decoding.
  ///
  /// All products make one loop, so that threads wait for each other once.
  public func multiply(_ calls: [MatmulCall]) {
    guard let first = calls.first else { return }
    precondition(
      calls.allSatisfy {
        $0.input.buffer === first.input.buffer && $0.input.offset == first.input.offset
          && $0.input.rows == first.input.rows && $0.input.columns == first.input.columns
          && $0.decodeRows == first.decodeRows && $0.scale == first.scale
      }, "products of one call have one input and one scale")
    let panelRows = 0..<first.input.rows - first.decodeRows
    let streamedRows = panelRows.upperBound..<first.input.rows
    if !panelRows.isEmpty { multiplyInPanels(calls, panelRows) }
    if !streamedRows.isEmpty { stream(calls, streamedRows) }
    for call in calls {
      guard let bias = call.bias else { continue }
      pool.run(call.output.rows) { row, _ in
        let output = call.output.floats(row: row)
        for column in 0..<call.output.columns { output[column] += bias.floats[column] }
      }
    }
  }

  private func multiplyInPanels(_ calls: [MatmulCall], _ rows: Range<Int>) {
    guard
      let inputs = narrowed(
        calls[0].input.rows(rows), calls[0].scale, inBlocks: multipliesInBlocks(calls))
    else { return }
    let grain = panelOutputs(calls)
    let items = calls.reduce(0) { $0 + ($1.weight.rows + grain - 1) / grain }
    let parts = rowParts(rows, items: items)
    run(calls, grain: grain, parts: parts.count) { call, outputs, part, thread in
      multiplyPanel(call, rows, parts[part], outputs, inputs, thread)
    }
  }

  /// Whether factors of 8 bits are precise enough, and there are products of them: those of single rows round inputs to as
  /// many bits, but for Q8_0.
  private func multipliesInBlocks(_ calls: [MatmulCall]) -> Bool {
    table.gemm_blocks != nil
      && calls.allSatisfy { $0.weight.element.blockSize > 1 && $0.weight.columns % 32 == 0 }
  }

  /// Outputs of an item: as many as products like at once, one panel where these would be fewer items than threads.
  private func panelOutputs(_ calls: [MatmulCall]) -> Int {
    let outputs = calls.reduce(0) { $0 + $1.weight.rows }
    return outputs / table.product_columns < pool.threadCount * Self.itemsPerThread
      ? Int(IHP_PANEL) : table.product_columns
  }

  /// Parts of the rows of a prefill: several where there are fewer items than keep the threads busy, each of
  /// enough rows to pay for a panel that it packs anew.
  private func rowParts(_ rows: Range<Int>, items: Int) -> [Range<Int>] {
    let count = max(
      1,
      min(
        rows.count / Self.leastRowsOfPart, pool.threadCount * Self.itemsPerThread / max(1, items)))
    return (0..<count).map {
      rows.lowerBound + rows.count * $0 / count..<rows.lowerBound + rows.count * ($0 + 1) / count
    }
  }

  private func stream(_ calls: [MatmulCall], _ rows: Range<Int>) {
    let input = calls[0].input.rows(rows)
    let preparedSize = Scratch.size(2 * input.columns + Int(IHP_PREPARED_EXTRA))
    guard narrowedInputs.reset(input.rows * preparedSize) else { return }
    let prepared = narrowedInputs.take(input.rows * preparedSize)
    if calls.contains(where: { $0.weight.element.blockSize > 1 }) {
      for row in 0..<input.rows {
        table.prepare_input(input.floats(row: row), input.columns, prepared + row * preparedSize)
      }
    }
    run(calls, grain: streamedOutputs(calls)) { call, outputs, _, thread in
      stream(call, rows, outputs, prepared, preparedSize, thread)
    }
  }

  /// Calls `body` for every `grain` outputs of every product, and each of several parts of what it multiplies.
  private func run(
    _ calls: [MatmulCall], grain: Int, parts: Int = 1,
    _ body: (MatmulCall, _ outputs: Range<Int>, _ part: Int, _ thread: Int) -> Void
  ) {
    let counts = calls.map { ($0.weight.rows + grain - 1) / grain }
    pool.run(counts.reduce(0, +) * parts) { item, thread in
      let (panel, part) = item.quotientAndRemainder(dividingBy: parts)
      var item = panel
      for (call, count) in zip(calls, counts) {
        guard item >= count else {
          body(call, item * grain..<min((item + 1) * grain, call.weight.rows), part, thread)
          return
        }
        item -= count
      }
    }
  }

  /// Outputs of a streamed item.
  private func streamedOutputs(_ calls: [MatmulCall]) -> Int {
    let outputs = calls.reduce(0) { $0 + $1.weight.rows }
    return max(32, (outputs / (pool.threadCount * Self.itemsPerThread) + 15) / 16 * 16)
  }

  private func stream(
    _ call: MatmulCall, _ rows: Range<Int>, _ outputs: Range<Int>,
    _ prepared: UnsafePointer<Float>, _ preparedSize: Int, _ thread: Int
  ) {
    let rowBytes = call.weight.rowByteCount
    // Few outputs at a time where inputs are many: what they sum up to stays near.
    let part = rows.count == 1 ? outputs.count : min(outputs.count, 256)
    let scratch = scratch(thread)
    guard scratch.reset(rows.count * Scratch.size(part)) else { return }
    let products = scratch.take(rows.count * Scratch.size(part))
    for first in stride(from: outputs.lowerBound, to: outputs.upperBound, by: part) {
      let count = min(part, outputs.upperBound - first)
      table.matvec(
        call.weight.element.kernelElement, call.weight.bytes + first * rowBytes, rowBytes, count,
        call.input.floats(row: rows.lowerBound), prepared, preparedSize, rows.count,
        call.input.columns, products, Scratch.size(part))
      for row in 0..<rows.count {
        let output = call.output.floats(row: rows.lowerBound + row) + first
        let product = products + row * Scratch.size(part)
        if call.scale != 1 { for index in 0..<count { product[index] *= call.scale } }
        switch call.update {
        case .replace: output.update(from: product, count: count)
        case .add: for index in 0..<count { output[index] += product[index] }
        }
      }
    }
  }

  /// Multiplies `rows`, which are some of those that `inputs` holds.
  private func multiplyPanel(
    _ call: MatmulCall, _ held: Range<Int>, _ rows: Range<Int>, _ outputs: Range<Int>,
    _ inputs: PanelInputs, _ thread: Int
  ) {
    let width = call.weight.columns
    let panel = Int(IHP_PANEL)
    let weight = call.weight
    let left = inputs.rows + (rows.lowerBound - held.lowerBound) * inputs.rowBytes
    let scratch = scratch(thread)
    let most = min(width, table.product_depth)
    /// Bytes of a panel.
    func size(_ depth: Int) -> Int {
      inputs.isInBlocks
        ? depth / 32 * table.panel_block_bytes
        : (depth + Int(IHP_PANEL_DEPTH) - 1) / Int(IHP_PANEL_DEPTH) * Int(IHP_PANEL_DEPTH) * panel
          * productBytes
    }
    let pack = inputs.isInBlocks ? table.pack_blocks : table.pack
    let room = (outputs.count + panel - 1) / panel * size(most) / MemoryLayout<Float>.size
    guard scratch.reset(Scratch.size(room)) else { return }
    let panels = UnsafeMutableRawPointer(scratch.take(room))
    for start in stride(from: 0, to: width, by: most) {
      let depth = min(most, width - start)
      for first in stride(from: 0, to: outputs.count, by: panel) {
        pack?(
          weight.element.kernelElement,
          weight.bytes + (outputs.lowerBound + first) * weight.rowByteCount
            + weight.element.byteCount(of: start),
          weight.rowByteCount, min(panel, outputs.count - first), depth,
          panels + first / panel * size(depth))
      }
      let output = call.output.floats(row: rows.lowerBound) + outputs.lowerBound
      let keeps: Int32 = call.update == .add || start > 0 ? 1 : 0
      if inputs.isInBlocks {
        table.gemm_blocks(
          left + start / 32 * table.input_block_bytes, inputs.rowBytes, rows.count, panels, depth,
          output, weight.rows, outputs.count, keeps)
      } else {
        table.gemm(
          table.product_element, left + start * productBytes, inputs.rowBytes / productBytes,
          rows.count, panels, depth, output, weight.rows, outputs.count, keeps)
      }
    }
  }

  /// The rows times `scale` in the precision of the products; nil without memory for them.
  private func narrowed(_ input: DeviceTensor, _ scale: Float, inBlocks: Bool) -> PanelInputs? {
    let isExact = table.product_element == IHP_F32 && !inBlocks
    let width = input.columns
    guard !isExact || scale != 1 else {
      return PanelInputs(
        rows: UnsafeRawPointer(input.floats), rowBytes: width * MemoryLayout<Float>.size,
        isInBlocks: false)
    }
    let bytes = inBlocks ? width / 32 * table.input_block_bytes : width * productBytes
    // A line more than the elements take: rows that lay a power of two apart would share their place in caches.
    let rowSize = isExact ? width : Scratch.size(bytes / MemoryLayout<Float>.size + 1)
    guard
      narrowedInputs.reset(
        Scratch.size(input.rows * rowSize) + pool.threadCount * Scratch.size(width))
    else { return nil }
    let rows = narrowedInputs.take(input.rows * rowSize)
    let scaled = (0..<pool.threadCount).map { _ in narrowedInputs.take(width) }
    let grain = max(8, min(64, input.rows / (pool.threadCount * Self.itemsPerThread)))
    pool.run((input.rows + grain - 1) / grain) { item, thread in
      for row in item * grain..<min(input.rows, (item + 1) * grain) {
        var source = input.floats(row: row)
        if scale != 1 {
          for column in 0..<width { scaled[thread][column] = scale * source[column] }
          source = scaled[thread]
        }
        if inBlocks {
          table.prepare_blocks(source, width, rows + row * rowSize)
        } else {
          table.narrow(table.product_element, source, width, rows + row * rowSize)
        }
      }
    }
    return PanelInputs(
      rows: UnsafeRawPointer(rows), rowBytes: rowSize * MemoryLayout<Float>.size,
      isInBlocks: inBlocks)
  }
}

/// Rows that a prefill multiplies, in the precision of the products.
private struct PanelInputs {
  let rows: UnsafeRawPointer
  /// From one row to the next.
  let rowBytes: Int
  /// Whether elements are in blocks of 8 bits.
  let isInBlocks: Bool
}
