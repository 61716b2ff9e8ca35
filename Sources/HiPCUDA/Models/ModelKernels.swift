// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPCompute
internal import HiPTensors

/// The operations of whole models but for attention: `embed.cu`, `product.cu`, `model_rows.cu`.
///
/// Everything is enqueued, in order, on the stream that calls name; nothing is waited for.
package struct ModelKernels {
  let kernels: LoadedKernels
  let memory: DeviceMemory
  /// Whether many rows are multiplied in bfloat16, by the GPU's matrix units.
  let roundsFactors: Bool

  package init(_ kernels: LoadedKernels, _ memory: DeviceMemory, roundsFactors: Bool) {
    self.kernels = kernels
    self.memory = memory
    self.roundsFactors = roundsFactors
  }

  // MARK: Programs

  /// The program of a file for weights that are stored so.
  private static func program(_ file: String, _ element: ElementType) -> KernelProgram {
    KernelProgram(file, [.init("WEIGHT", "WEIGHT_" + element.rawValue.uppercased())])
  }

  private static let rows = KernelProgram("model_rows.cu")
  private static let logits = KernelProgram("logits.cu")

  /// All of them, for whoever compiles them ahead.
  package static let programs: [KernelProgram] =
    [rows, logits]
    + ElementType.allCases.flatMap { element in
      ["embed.cu", "product.cu"].map { program($0, element) }
    }

  private func kernel(_ name: String) throws(ComputeError) -> CUDAKernel {
    try kernels.kernel(name, of: Self.rows)
  }

  // MARK: Rows

  package func embed(_ call: EmbedCall, on stream: CUDAStream) throws(ComputeError) {
    let tokens = try memory.allocate(byteCount: 4 * call.tokens.count)
    try stream.uploadElements(call.tokens, to: tokens)
    let arguments = ihp_embed(
      tokens: tokens.address, table: call.table.address,
      table_stride: Int64(call.table.rowByteCount), output: call.output.address,
      rows: Int32(clamping: call.tokens.count), columns: Int32(clamping: call.table.columns),
      scale: call.scale)
    try kernels.kernel("embed_rows", of: Self.program("embed.cu", call.table.element)).launch(
      LaunchShape(
        grid: LaunchShape.Extent(call.tokens.count), block: LaunchShape.Extent(128)), on: stream,
      arguments)
  }

  package func normalize(
    _ call: NormCall, faults: RowFaults, on stream: CUDAStream
  ) throws(ComputeError) {
    let (rows, columns) = (call.input.rows, call.input.columns)
    let arguments = ihp_norm(
      input: call.input.address, weight: call.weight.address, output: call.output.address,
      rows: Int32(clamping: rows), columns: Int32(clamping: columns),
      rows_per_token: Int32(clamping: call.rowsPerToken), epsilon: call.epsilon,
      adds: call.update == .add ? 1 : 0,
      faults: faults.arguments(layer: call.layer, firstRow: call.firstRow))
    // A warp has a head, a block a row of activations.
    let together = columns > 256 ? 1 : 8
    try kernel("normalize_rows").launch(
      LaunchShape(
        grid: LaunchShape.Extent((rows + together - 1) / together),
        block: LaunchShape.Extent(together == 1 ? 256 : 32, together)), on: stream, arguments)
  }

  // MARK: Products

  /// Rows of which a call's are some.
  struct Subset {
    /// Which rows of input and output they are; 0: as they come.
    var inputRows: UInt64 = 0
    var outputRows: UInt64 = 0
    /// What each is multiplied by; 0: 1.
    var factors: UInt64 = 0
    /// Where the device has their number.
    var count: UInt64 = 0
  }

  package func multiply(_ call: MatmulCall, on stream: CUDAStream) throws(ComputeError) {
    let many = call.input.rows - call.decodeRows
    try multiply(call, rows: 0..<many, inTiles: roundsFactors, on: stream)
    try multiply(call, rows: many..<call.input.rows, inTiles: false, on: stream)
  }

  private func multiply(
    _ call: MatmulCall, rows: Range<Int>, inTiles: Bool, on stream: CUDAStream
  ) throws(ComputeError) {
    let product = product(
      call.input.rows(rows), call.weight, call.bias, call.output.rows(rows), call.update,
      scale: call.scale)
    try launch(product, call.weight.element, inTiles: inTiles, on: stream)
  }

  private func product(
    _ input: DeviceTensor, _ weight: DeviceTensor, _ bias: DeviceTensor?, _ output: DeviceTensor,
    _ update: MatmulCall.Update, scale: Float, _ subset: Subset = Subset()
  ) -> ihp_product {
    ihp_product(
      input: input.address, weight: weight.address, weight_stride: Int64(weight.rowByteCount),
      bias: bias?.address ?? 0, output: output.address, input_rows: subset.inputRows,
      output_rows: subset.outputRows, factors: subset.factors, row_count: subset.count,
      rows: Int32(clamping: input.rows), columns: Int32(clamping: weight.columns),
      outputs: Int32(clamping: weight.rows), scale: scale, adds: update == .add ? 1 : 0)
  }

  private func launch(
    _ product: ihp_product, _ element: ElementType, inTiles: Bool, on stream: CUDAStream
  ) throws(ComputeError) {
    let (rows, outputs) = (Int(product.rows), Int(product.outputs))
    func parts(_ count: Int, _ size: Int) -> Int { (count + size - 1) / size }
    let tile = IHP_PRODUCT_TILE
    let shape =
      inTiles
      ? LaunchShape(
        grid: LaunchShape.Extent(parts(outputs, tile), parts(rows, tile)),
        block: LaunchShape.Extent(128))
      : LaunchShape(
        grid: LaunchShape.Extent(
          parts(outputs, 8), parts(rows, IHP_PRODUCT_ROWS)),
        block: LaunchShape.Extent(256))
    try kernels.kernel(
      inTiles ? "product_tiles" : "product_rows", of: Self.program("product.cu", element)
    ).launch(shape, on: stream, product)
  }

  // MARK: Feed-forward

  package func feedForward(_ call: FeedForwardCall, on stream: CUDAStream) throws(ComputeError) {
    let many = call.input.rows - call.decodeRows
    for (rows, inTiles) in [(0..<many, roundsFactors), (many..<call.input.rows, false)]
    where !rows.isEmpty {
      switch call.weights {
      case .dense(let branch):
        try run(
          branch, of: call, rows, call.output.rows(rows), call.update, scale: call.scale,
          inTiles: inTiles, on: stream)
      case .experts(let experts):
        try run(experts, of: call, rows, inTiles: inTiles, on: stream)
      }
    }
  }

  /// A branch for some rows of the input, or a subset of them.
  private func run(
    _ branch: FeedForwardCall.Branch, of call: FeedForwardCall, _ rows: Range<Int>,
    _ output: DeviceTensor, _ update: MatmulCall.Update, scale: Float, _ subset: Subset = Subset(),
    inTiles: Bool, on stream: CUDAStream
  ) throws(ComputeError) {
    let input = call.input.rows(rows)
    let gate = call.workspace.gate.rows(0..<rows.count)
    let up = call.workspace.up.rows(0..<rows.count)
    let gathered = Subset(inputRows: subset.inputRows, count: subset.count)
    for (weight, bias, target) in [
      (branch.gate, branch.gateBias, gate), (branch.up, branch.upBias, up),
    ] {
      try launch(
        product(input, weight, bias, target, .replace, scale: 1, gathered), weight.element,
        inTiles: inTiles, on: stream)
    }
    let count = rows.count * gate.columns
    try kernel("gate_rows").launch(
      LaunchShape(
        grid: LaunchShape.Extent(
          min((count + 255) / 256, 16 * kernels.device.facts.multiprocessorCount)),
        block: LaunchShape.Extent(256)), on: stream,
      ihp_gate(
        gate: gate.address, up: up.address, row_count: subset.count,
        rows: Int32(clamping: rows.count), columns: Int32(clamping: gate.columns),
        activation: call.activation.kernelNumber))
    let scattered = Subset(
      outputRows: subset.outputRows, factors: subset.factors, count: subset.count)
    try launch(
      product(gate, branch.down, branch.downBias, output, update, scale: scale, scattered),
      branch.down.element, inTiles: inTiles, on: stream)
  }

  /// Expert by expert, each with the rows that take it, whose number only the device knows.
  private func run(
    _ experts: FeedForwardCall.Experts, of call: FeedForwardCall, _ rows: Range<Int>,
    inTiles: Bool, on stream: CUDAStream
  ) throws(ComputeError) {
    guard let workspace = call.workspace.experts else {
      preconditionFailure("experts need memory for the rows that they take")
    }
    let router = workspace.router.rows(0..<rows.count)
    // The choice falls by small differences: always in float32.
    try launch(
      product(
        call.input.rows(rows), experts.router, experts.routerBias, router, .replace, scale: 1),
      experts.router.element, inTiles: false, on: stream)
    let expertCount = experts.branches.count
    let counts = try memory.allocate(byteCount: 4 * expertCount)
    let takers = try memory.allocate(byteCount: 4 * expertCount * rows.count)
    let factors = try memory.allocate(byteCount: 4 * expertCount * rows.count)
    try stream.fill(counts.all, with: 0)
    try kernel("route_rows").launch(
      LaunchShape(
        grid: LaunchShape.Extent((rows.count + 7) / 8), block: LaunchShape.Extent(256)),
      on: stream,
      ihp_route(
        logits: router.address, counts: counts.address, takers: takers.address,
        factors: factors.address, rows: Int32(clamping: rows.count),
        experts: Int32(clamping: expertCount), used: Int32(clamping: experts.routing.used),
        is_renormalised: experts.routing.isRenormalised ? 1 : 0, scale: call.scale))
    let output = call.output.rows(rows)
    if call.update == .replace { try stream.fill(output.part, with: 0) }
    for (index, branch) in experts.branches.enumerated() {
      let first = UInt64(4 * index * rows.count)
      let subset = Subset(
        inputRows: takers.address + first, outputRows: takers.address + first,
        factors: factors.address + first, count: counts.address + UInt64(4 * index))
      try run(
        branch, of: call, rows, output, .add, scale: 1, subset, inTiles: inTiles, on: stream)
    }
  }

  // MARK: Logits

  /// Scales and caps rows of logits.
  package func cap(
    _ logits: DeviceTensor, scale: Float, softCap: Float?, on stream: CUDAStream
  ) throws(ComputeError) {
    guard scale != 1 || softCap != nil else { return }
    try kernels.kernel("cap_logits", of: Self.logits).launch(
      LaunchShape(
        grid: LaunchShape.Extent(min(64, (logits.columns + 255) / 256), logits.rows),
        block: LaunchShape.Extent(256)), on: stream,
      arguments(logits, scale: scale, softCap: softCap ?? 0))
  }

  /// What rows of logits come to, one summary for each.
  package func summarize(
    _ logits: DeviceTensor, targets: CUDABuffer?, into summaries: CUDABuffer,
    on stream: CUDAStream
  ) throws(ComputeError) {
    var arguments = arguments(logits, scale: 1, softCap: 0)
    arguments.targets = targets?.address ?? 0
    arguments.summaries = summaries.address
    try kernels.kernel("summarize_logits", of: Self.logits).launch(
      LaunchShape(grid: LaunchShape.Extent(logits.rows), block: LaunchShape.Extent(512)),
      on: stream, arguments)
  }

  private func arguments(_ logits: DeviceTensor, scale: Float, softCap: Float) -> ihp_logits {
    ihp_logits(
      logits: logits.address, targets: 0, summaries: 0, rows: Int32(clamping: logits.rows),
      columns: Int32(clamping: logits.columns), scale: scale, soft_cap: softCap)
  }
}

extension GateActivation {
  fileprivate var kernelNumber: Int32 {
    switch self {
    case .silu: Int32(IHP_GATE_SILU)
    case .geluTanh: Int32(IHP_GATE_GELU_TANH)
    case .clampedSwiGLU: Int32(IHP_GATE_CLAMPED_SWIGLU)
    }
  }
}
