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
    /// What selections are restricted to; nil: nothing.
    let passages: Passages?
  }

  /// The policy of a question that begins at `position`, and its focus; nil where it looks everywhere.
  func focusing(at position: Int) -> (pruning: HierarchicalPruning, focus: Focus)? {
    guard position >= denseLength, case .hierarchical(let pruning) = policy,
      let focus = pruning.focus(at: position)
    else { return nil }
    return (pruning, focus)
  }

  /// Tokens at the end of a prompt of `length` that are to be read as its question; nil where that makes no
  /// difference.
  public func questionLength(endingAt length: Int) -> Int? {
    guard case .hierarchical(let pruning) = policy else { return nil }
    // An unfinished block: those are searched with finer stages.
    let count = pruning.queryBlock - 1
    return focusing(at: length - count) == nil ? nil : count
  }

  /// Attends densely with the positions below `denseLength`, by the policy with the others.
  func run(_ step: Step, architecture: DecoderArchitecture, backend: any ComputeBackend) {
    let dense = max(0, min(step.queries.rows, denseLength - step.start))
    if dense > 0 { attend(.dense, step, 0..<dense, architecture, backend) }
    guard dense < step.queries.rows else { return }
    let rest = dense..<step.queries.rows
    switch policy {
    case .dense: attend(.dense, step, rest, architecture, backend)
    case .stretched(let stretch):
      // Rows of one factor at a time.
      var first = rest.lowerBound
      while first < rest.upperBound {
        let position = step.start + first
        let end = stretch.end(
          ofFactorAt: position, trainedLength: architecture.trainedLength)
        let rows = first..<min(rest.upperBound, max(end - step.start, first + 1))
        attend(
          .dense, step, rows, architecture, backend,
          rotary: architecture.rotary.stretched(
            stretch, position: position, trainedLength: architecture.trainedLength))
        first = rows.upperBound
      }
    case .streaming(let window): attend(.streaming(window), step, rest, architecture, backend)
    case .heavyHitters(let hitters):
      attend(.heavyHitters(hitters, step.selection), step, rest, architecture, backend)
    case .hierarchical(let pruning):
      let (layer, count) = (step.view.layer, architecture.layerCount)
      if pruning.isDense(layer: layer, of: count) {
        attend(.dense, step, rest, architecture, backend)
      } else {
        select(pruning.applied(toLayer: layer, of: count), step, rest, architecture, backend)
      }
    }
  }

  private func attend(
    _ reach: AttendCall.Reach, _ step: Step, _ rows: Range<Int>,
    _ architecture: DecoderArchitecture, _ backend: any ComputeBackend,
    rotary: RotaryEmbedding? = nil
  ) {
    backend.attend(
      AttendCall(
        input: step.input(rows, architecture, rotary: rotary), reach: reach,
        output: step.output.rows(rows)))
  }

  /// Whole blocks of queries first, then the unfinished one.
  private func select(
    _ layer: HierarchicalPruning, _ step: Step, _ rest: Range<Int>,
    _ architecture: DecoderArchitecture, _ backend: any ComputeBackend
  ) {
    let whole = rest.count / layer.queryBlock * layer.queryBlock
    for (rows, pruning) in [(rest.prefix(whole), layer), (rest.dropFirst(whole), layer.fine)]
    where !rows.isEmpty {
      let schedule = SelectionSchedule(pruning)
      if let passages = step.passages {
        backend.select(
          SelectCall(
            input: step.input(rows, architecture), pruning: pruning, passages: passages,
            state: step.selection))
      } else if let stage = step.decodingStep.map({ schedule.firstDueStage(step: $0) }) ?? 0 {
        backend.select(
          SelectCall(
            input: step.input(rows, architecture), pruning: pruning, firstStage: stage,
            state: step.selection))
      }
      attend(.selected(pruning, step.selection), step, rows, architecture, backend)
    }
  }
}

extension LayerAttention.Step {
  /// Some rows of the step.
  func input(
    _ rows: Range<Int>, _ architecture: DecoderArchitecture, rotary: RotaryEmbedding? = nil
  ) -> AttentionInput {
    AttentionInput(
      queries: queries.rows(rows), shape: architecture.attention, start: start + rows.lowerBound,
      cache: view, rotary: rotary ?? architecture.rotary, trainedLength: architecture.trainedLength)
  }
}
