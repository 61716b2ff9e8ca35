// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
public import HiPCompute
internal import HiPTensors

extension CPUBackend {
  /// Rows below which weights are streamed once per row instead of being unpacked for all rows.
  private static var streamedRows: Int { 4 }
  /// Columns of a weight matrix that are unpacked at a time: 64 of them fill an L2 cache's share.
  private static var unpackedWidth: Int { 512 }

  /// Streams the weights for few rows, unpacks them in panels for many.
  public func multiply(_ call: MatmulCall) {
    if call.input.rows < Self.streamedRows { stream(call) } else { multiplyPanels(call) }
  }

  private func stream(_ call: MatmulCall) {
    let outputs = call.weight.rows
    let grain = max(32, (outputs / (pool.threadCount * 4) + 15) / 16 * 16)
    let element = call.weight.element.kernelElement
    let rowBytes = call.weight.rowByteCount
    pool.run((outputs + grain - 1) / grain) { item, thread in
      let first = item * grain
      let count = min(grain, outputs - first)
      let scratch = scratch(thread)
      scratch.reset(Scratch.size(count))
      let product = scratch.take(count)
      for row in 0..<call.input.rows {
        table.matvec(
          element, call.weight.bytes + first * rowBytes, rowBytes, count,
          call.input.floats(row: row), call.input.columns, product)
        let output = call.output.floats(row: row) + first
        switch call.update {
        case .replace: for index in 0..<count { output[index] = product[index] }
        case .add: for index in 0..<count { output[index] += product[index] }
        }
      }
    }
  }

  private func multiplyPanels(_ call: MatmulCall) {
    let outputs = call.weight.rows
    let width = call.weight.columns
    let panel = Int(HIP_PANEL)
    let element = call.weight.element.kernelElement
    let inputs = narrowed(call.input)
    let bytesPerInput = table.product_element == HIP_BF16 ? 2 : 4
    pool.run((outputs + panel - 1) / panel) { item, thread in
      let first = item * panel
      let count = min(panel, outputs - first)
      let scratch = scratch(thread)
      scratch.reset(Scratch.size(Self.unpackedWidth * panel))
      let unpacked = scratch.take(Self.unpackedWidth * panel)
      for start in stride(from: 0, to: width, by: Self.unpackedWidth) {
        let depth = min(Self.unpackedWidth, width - start)
        table.pack(
          element,
          call.weight.bytes + first * call.weight.rowByteCount
            + call.weight.element.byteCount(of: start),
          call.weight.rowByteCount, count, depth, unpacked)
        table.gemm(
          table.product_element, inputs + start * bytesPerInput, width, call.input.rows, unpacked,
          depth,
          call.output.floats + first, outputs, count,
          call.update == .add || start > 0 ? 1 : 0)
      }
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
