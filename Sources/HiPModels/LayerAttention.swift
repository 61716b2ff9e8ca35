// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
internal import HiPCompute

/// How a sequence attends: a policy, and how many first positions are dense whatever it says.
public struct LayerAttention: Sendable, Hashable {
  /// What a position from `denseLength` on attends to.
  public let policy: AttentionPolicy
  /// Number of first positions that attend densely.
  public let denseLength: Int

  /// A choice as a model trained on `trainedLength` tokens has it.
  public init(_ choice: AttentionChoice, trainedLength: Int) {
    policy = choice.policy
    denseLength = choice.denseLength(trainedLength: trainedLength)
  }

  /// The queries of a step in one layer, and what they read.
  struct Step {
    let queries: DeviceTensor
    let output: DeviceTensor
    let start: Int
    let view: KVView
    let selection: any SelectionState
    /// Nil in a prefill.
    let decodingStep: Int?
  }

  /// Attends densely with the positions below `denseLength`, by the policy with the others.
  func run(_ step: Step, architecture: DecoderArchitecture, backend: any ComputeBackend) {
    let dense = max(0, min(step.queries.rows, denseLength - step.start))
    if dense > 0 {
      let part = Part(step, 0..<dense, architecture)
      backend.attend(AttendCall(input: part.input, reach: .dense, output: part.output))
    }
    guard dense < step.queries.rows else { return }
    let rest = dense..<step.queries.rows
    guard case .hierarchical(let pruning) = policy else {
      let part = Part(step, rest, architecture)
      let reach: AttendCall.Reach =
        if case .streaming(let window) = policy { .streaming(window) } else { .dense }
      backend.attend(AttendCall(input: part.input, reach: reach, output: part.output))
      return
    }
    let layer = pruning.applied(toLayer: step.view.layer, of: architecture.layerCount)
    let whole = rest.count / layer.queryBlock * layer.queryBlock
    for (rows, pruning) in [(rest.prefix(whole), layer), (rest.dropFirst(whole), layer.fine)]
    where !rows.isEmpty {
      let part = Part(step, rows, architecture)
      let schedule = SelectionSchedule(pruning)
      if let stage = step.decodingStep.map({ schedule.firstDueStage(step: $0) }) ?? 0 {
        backend.select(
          SelectCall(
            input: part.input, pruning: pruning, firstStage: stage, state: step.selection))
      }
      backend.attend(
        AttendCall(
          input: part.input, reach: .selected(pruning, step.selection), output: part.output))
    }
  }

  /// Some rows of a step.
  private struct Part {
    let input: AttentionInput
    let output: DeviceTensor

    init(_ step: Step, _ rows: Range<Int>, _ architecture: DecoderArchitecture) {
      input = AttentionInput(
        queries: step.queries.rows(rows), shape: architecture.attention,
        start: step.start + rows.lowerBound, cache: step.view, rotary: architecture.rotary)
      output = step.output.rows(rows)
    }
  }
}
