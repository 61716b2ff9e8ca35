// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
internal import HiPCompute

/// How a sequence attends: a policy, and how many first positions are dense whatever it says.
public struct LayerAttention: Sendable, Hashable {
  public let policy: AttentionPolicy
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
    let part = Part(step, dense..<step.queries.rows, architecture)
    let reach: AttendCall.Reach
    switch policy {
    case .dense:
      reach = .dense
    case .streaming(let window):
      reach = .streaming(window)
    case .hierarchical(let pruning):
      let layer = pruning.applied(toLayer: step.view.layer, of: architecture.layerCount)
      let pruning = step.decodingStep == nil ? layer : layer.decoding
      let schedule = SelectionSchedule(pruning)
      let firstStage = step.decodingStep.map { schedule.firstDueStage(step: $0) } ?? 0
      if let firstStage {
        backend.select(
          SelectCall(
            input: part.input, pruning: pruning, firstStage: firstStage, state: step.selection))
      }
      reach = .selected(pruning, step.selection)
    }
    backend.attend(AttendCall(input: part.input, reach: reach, output: part.output))
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
