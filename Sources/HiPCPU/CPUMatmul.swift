// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
public import HiPCompute
internal import HiPTensors

extension CPUBackend {
  /// Rows up to which weights are multiplied as they are stored instead of being unpacked.
  private static var streamedRows: Int { 4 }
  /// Columns of a weight matrix that are unpacked at a time: 64 of them fill an L2 cache's share.
  private static var unpackedWidth: Int { 512 }

  /// Streams the weights for few rows, unpacks them in panels for many.
  ///
  /// All products make one loop, so that threads wait for each other once.
  public func multiply(_ calls: [MatmulCall]) {
    guard let input = calls.first?.input else { return }
    precondition(
      calls.allSatisfy { $0.input.buffer === input.buffer && $0.input.offset == input.offset }
        && calls.allSatisfy { $0.input.rows == input.rows && $0.input.columns == input.columns },
      "products of one call have one input")
    let rows = input.rows
    if rows <= Self.streamedRows {
      let width = calls[0].input.columns
      let preparedSize = Scratch.size(2 * width + Int(HIP_PREPARED_EXTRA))
      narrowedInputs.reset(rows * preparedSize)
      let prepared = narrowedInputs.take(rows * preparedSize)
      if calls.contains(where: { $0.weight.element.blockSize > 1 }) {
        for row in 0..<rows {
          table.prepare_input(
            calls[0].input.floats(row: row), width, prepared + row * preparedSize)
        }
      }
      run(calls, grain: streamedOutputs(calls)) { call, outputs, thread in
        stream(call, outputs, prepared, preparedSize, thread)
      }
    } else {
      let inputs = narrowed(calls[0].input)
      run(calls, grain: Int(HIP_PANEL)) { call, outputs, thread in
        multiplyPanel(call, outputs, inputs, thread)
      }
    }
  }

  /// Calls `body` for every `grain` outputs of every product.
  private func run(
    _ calls: [MatmulCall], grain: Int, _ body: (MatmulCall, Range<Int>, _ thread: Int) -> Void
  ) {
    let counts = calls.map { ($0.weight.rows + grain - 1) / grain }
    pool.run(counts.reduce(0, +)) { item, thread in
      var item = item
      for (call, count) in zip(calls, counts) {
        guard item >= count else {
          body(call, item * grain..<min((item + 1) * grain, call.weight.rows), thread)
          return
        }
        item -= count
      }
    }
  }

  /// Outputs of a streamed item: four items per thread even out the end.
  private func streamedOutputs(_ calls: [MatmulCall]) -> Int {
    let outputs = calls.reduce(0) { $0 + $1.weight.rows }
    return max(32, (outputs / (pool.threadCount * 4) + 15) / 16 * 16)
  }

  private func stream(
    _ call: MatmulCall, _ outputs: Range<Int>, _ prepared: UnsafePointer<Float>,
    _ preparedSize: Int, _ thread: Int
  ) {
    let rowBytes = call.weight.rowByteCount
    // Few outputs at a time: their weights stay near for the next input.
    let part = call.input.rows == 1 ? outputs.count : 16
    let scratch = scratch(thread)
    scratch.reset(Scratch.size(part))
    let product = scratch.take(part)
    for first in stride(from: outputs.lowerBound, to: outputs.upperBound, by: part) {
      let count = min(part, outputs.upperBound - first)
      for row in 0..<call.input.rows {
        table.matvec(
          call.weight.element.kernelElement, call.weight.bytes + first * rowBytes, rowBytes, count,
          call.input.floats(row: row), prepared + row * preparedSize, call.input.columns, product)
        let output = call.output.floats(row: row) + first
        switch call.update {
        case .replace: output.update(from: product, count: count)
        case .add: for index in 0..<count { output[index] += product[index] }
        }
      }
    }
  }

  private func multiplyPanel(
    _ call: MatmulCall, _ outputs: Range<Int>, _ inputs: UnsafeRawPointer, _ thread: Int
  ) {
    let width = call.weight.columns
    let panel = Int(HIP_PANEL)
    let weight = call.weight
    let bytesPerInput = table.product_element == HIP_BF16 ? 2 : 4
    let scratch = scratch(thread)
    scratch.reset(Scratch.size(Self.unpackedWidth * panel))
    let unpacked = scratch.take(Self.unpackedWidth * panel)
    for start in stride(from: 0, to: width, by: Self.unpackedWidth) {
      let depth = min(Self.unpackedWidth, width - start)
      table.pack(
        weight.element.kernelElement,
        weight.bytes + outputs.lowerBound * weight.rowByteCount
          + weight.element.byteCount(of: start),
        weight.rowByteCount, outputs.count, depth, unpacked)
      table.gemm(
        table.product_element, inputs + start * bytesPerInput, width, call.input.rows, unpacked,
        depth, call.output.floats + outputs.lowerBound, weight.rows, outputs.count,
        call.update == .add || start > 0 ? 1 : 0)
    }
  }

  /// The rows in the precision of the products.
  private func narrowed(_ input: DeviceTensor) -> UnsafeRawPointer {
    guard table.product_element != HIP_F32 else { return UnsafeRawPointer(input.floats) }
    let width = input.columns
    narrowedInputs.reset(Scratch.size(input.rows * width / 2))
    let rows = narrowedInputs.take(input.rows * width / 2)
    let grain = 64
    pool.run((input.rows + grain - 1) / grain) { item, _ in
      let first = item * grain
      let count = min(grain, input.rows - first) * width
      table.narrow(
        table.product_element, input.floats(row: first), count, rows + first * width / 2)
    }
    return UnsafeRawPointer(rows)
  }
}
