// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
public import HiPCompute

extension CPUBackend {
  /// All rows through one branch, or each row through those that it is drawn to.
  public func feedForward(_ call: FeedForwardCall) {
    switch call.weights {
    case .dense(let branch):
      run(
        branch, of: call, input: call.input, output: call.output, update: call.update,
        scale: call.scale, decodeRows: call.decodeRows)
    case .experts(let experts):
      guard let workspace = call.workspace.experts else {
        preconditionFailure("experts need memory for the rows that they take")
      }
      run(experts, workspace, call)
    }
  }

  private func run(
    _ branch: FeedForwardCall.Branch, of call: FeedForwardCall, input: DeviceTensor,
    output: DeviceTensor, update: MatmulCall.Update, scale: Float, decodeRows: Int
  ) {
    let gate = call.workspace.gate.rows(0..<input.rows)
    let up = call.workspace.up.rows(0..<input.rows)
    multiply([
      MatmulCall(
        input: input, weight: branch.gate, bias: branch.gateBias, output: gate,
        decodeRows: decodeRows),
      MatmulCall(
        input: input, weight: branch.up, bias: branch.upBias, output: up, decodeRows: decodeRows),
    ])
    let count = gate.rows * gate.columns
    let grain = 16 * 1024
    pool.run((count + grain - 1) / grain) { item, _ in
      let start = item * grain
      table.gate(
        call.activation.kernelActivation, gate.floats + start, up.floats + start,
        min(grain, count - start))
    }
    multiply([
      MatmulCall(
        input: gate, weight: branch.down, bias: branch.downBias, output: output, update: update,
        scale: scale, decodeRows: decodeRows)
    ])
  }

  /// Expert by expert, each with the rows that take it, so that its weights are loaded once.
  private func run(
    _ experts: FeedForwardCall.Experts, _ workspace: FeedForwardCall.ExpertWorkspace,
    _ call: FeedForwardCall
  ) {
    let rows = call.input.rows
    let router = workspace.router.rows(0..<rows)
    multiply([
      MatmulCall(
        input: call.input, weight: experts.router, bias: experts.routerBias, output: router,
        decodeRows: call.decodeRows)
    ])
    var takers = [[(row: Int, weight: Float)]](repeating: [], count: experts.branches.count)
    for row in 0..<rows {
      let logits = UnsafeBufferPointer(start: router.floats(row: row), count: router.columns)
      for (expert, weight) in experts.routing.choice(logits) {
        takers[expert].append((row, weight))
      }
    }
    let width = call.output.columns
    if call.update == .replace { call.output.floats.update(repeating: 0, count: rows * width) }
    for (branch, takers) in zip(experts.branches, takers) where !takers.isEmpty {
      let input = workspace.gathered.rows(0..<takers.count)
      let output = workspace.products.rows(0..<takers.count)
      for (place, taker) in takers.enumerated() {
        input.floats(row: place).update(from: call.input.floats(row: taker.row), count: width)
      }
      run(
        branch, of: call, input: input, output: output, update: .replace, scale: 1,
        decodeRows: takers.count { $0.row >= rows - call.decodeRows })
      for (place, taker) in takers.enumerated() {
        let (sum, product) = (call.output.floats(row: taker.row), output.floats(row: place))
        let weight = taker.weight * call.scale
        for column in 0..<width { sum[column] += weight * product[column] }
      }
    }
  }
}

extension ExpertRouting {
  /// The experts of a row, and what their outputs are multiplied by.
  fileprivate func choice(_ logits: UnsafeBufferPointer<Float>) -> [(expert: Int, weight: Float)] {
    let chosen = logits.indices.sorted {
      logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1
    }.prefix(used)
    guard let best = chosen.first else { return [] }
    func weight(_ expert: Int) -> Double { exp(Double(logits[expert]) - Double(logits[best])) }
    let sum = (isRenormalised ? Array(chosen) : Array(logits.indices)).reduce(0) { $0 + weight($1) }
    return chosen.map { ($0, Float(weight($0) / sum)) }
  }
}

extension GateActivation {
  fileprivate var kernelActivation: ihp_activation {
    switch self {
    case .silu: IHP_SILU
    case .geluTanh: IHP_GELU_TANH
    case .clampedSwiGLU: IHP_CLAMPED_SWIGLU
    }
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif
