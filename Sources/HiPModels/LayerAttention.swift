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

  /// The policy of a question that begins at `position`, and its focus; nil where it attends everywhere.
  public func focusing(at position: Int) -> (pruning: HierarchicalPruning, focus: Focus)? {
    guard position >= denseLength, case .hierarchical(let pruning) = policy,
      let focus = pruning.focus(at: position)
    else { return nil }
    return (pruning, focus)
  }

  /// Tokens of a prompt that one step takes at least, where there are as many: blocks of queries that select
  /// together.
  public var prefillUnit: Int {
    guard case .hierarchical(let pruning) = policy else { return 64 }
    let together = (pruning.stages + pruning.fine.stages).map(\.queryBlocks).max() ?? 1
    var unit = 64
    while unit < pruning.queryBlock * together { unit *= 2 }
    return min(unit, DecoderModel.largestPrefill)
  }

  /// What the tokens that a text shares with others of its length are a multiple of: no block of queries is cut.
  public func reuseUnit(of length: Int) -> Int { length <= denseLength ? 1 : prefillUnit }

  /// Tokens at the end of a prompt of `length` that are its question; nil where that makes no difference.
  public func questionLength(endingAt length: Int) -> Int? {
    guard case .hierarchical(let pruning) = policy else { return nil }
    // An unfinished block: those are searched with finer stages.
    let count = pruning.unfinishedBlock - 1
    return focusing(at: length - count) == nil ? nil : count
  }
}

/// One layer of a slice: its attention in phases, of which each may select anew.
struct LayerStep {
  let architecture: DecoderArchitecture
  let layer: Int
  let slice: SequenceSlice
  /// The slice's number in the step, under which its selections vote.
  let number: Int
  let cache: SequenceCache
  let queries: DeviceTensor
  let sinks: DeviceTensor?
  let output: DeviceTensor

  struct Phase {
    var select: SelectCall.Item?
    let attend: AttendCall.Item
  }

  private var plan: LayerPlan { architecture.layers[layer] }
  private var rotary: RotaryEmbedding? { plan.rotary?.embedding(length: slice.length) }
  private var trainedLength: Int { architecture.trainedLength }

  /// Attends densely with the positions below `denseLength`, by the policy with the others.
  var phases: [Phase] {
    if case .sliding(let window) = plan.reach {
      return [Phase(attend: attend(.streaming(window), 0..<queries.rows))]
    }
    let dense = max(0, min(queries.rows, slice.attention.denseLength - slice.start))
    var phases: [Phase] = []
    if dense > 0 { phases.append(Phase(attend: attend(.dense, 0..<dense))) }
    guard dense < queries.rows else { return phases }
    let rest = dense..<queries.rows
    switch slice.attention.policy {
    case .dense: phases.append(Phase(attend: attend(.dense, rest)))
    case .stretched(let stretch): phases += stretched(stretch, rest)
    case .streaming(let window): phases.append(Phase(attend: attend(.streaming(window), rest)))
    case .heavyHitters(let hitters):
      phases.append(Phase(attend: attend(.heavyHitters(hitters, cache.heavyHitters), rest)))
    case .hierarchical(let pruning):
      let count = architecture.layerCount
      if pruning.isDense(layer: layer, of: count) {
        phases.append(Phase(attend: attend(.dense, rest)))
      } else {
        phases += selecting(pruning.applied(toLayer: layer, of: count), rest)
      }
    }
    return phases
  }

  /// Rows of one factor at a time.
  private func stretched(_ stretch: RotaryStretch, _ rows: Range<Int>) -> [Phase] {
    var phases: [Phase] = []
    var first = rows.lowerBound
    while first < rows.upperBound {
      let position = slice.start + first
      let end = stretch.end(ofFactorAt: position, trainedLength: trainedLength)
      let part = first..<min(rows.upperBound, max(end - slice.start, first + 1))
      let rotary = rotary?.stretched(
        stretch, position: position, trainedLength: trainedLength)
      phases.append(
        Phase(
          attend: AttendCall.Item(
            input: input(part, rotary: rotary), reach: .dense, output: output.rows(part))))
      first = part.upperBound
    }
    return phases
  }

  /// Whole blocks of queries first, then the unfinished one.
  private func selecting(_ pruning: HierarchicalPruning, _ rows: Range<Int>) -> [Phase] {
    let whole = rows.count / pruning.unfinishedBlock * pruning.unfinishedBlock
    return [(rows.prefix(whole), pruning), (rows.dropFirst(whole), pruning.fine)]
      .filter { !$0.0.isEmpty }.map { rows, pruning in
        Phase(
          select: source(pruning).map { source in
            SelectCall.Item(
              input: input(rows), pruning: pruning, source: source, state: cache.selection,
              report: slice.kind == .probe ? .votes(number) : .nothing)
          }, attend: attend(.selected(pruning, cache.selection), rows))
      }
  }

  /// What a selection starts from; nil when the last one stays.
  private func source(_ pruning: HierarchicalPruning) -> SelectCall.Source? {
    switch slice.selection {
    case .everywhere: return .grid
    case .within(let passages): return .among(passages)
    case .decoding(let step):
      guard let stage = SelectionSchedule(pruning).firstDueStage(step: step) else { return nil }
      return stage == 0 ? .grid : .resume(stage: stage)
    }
  }

  private func attend(_ reach: AttendCall.Reach, _ rows: Range<Int>) -> AttendCall.Item {
    AttendCall.Item(input: input(rows), reach: reach, output: output.rows(rows))
  }

  /// Some rows of the slice.
  func input(_ rows: Range<Int>) -> AttentionInput { input(rows, rotary: rotary) }

  private func input(_ rows: Range<Int>, rotary: RotaryEmbedding?) -> AttentionInput {
    AttentionInput(
      queries: queries.rows(rows), shape: architecture.attention,
      start: slice.start + rows.lowerBound, table: cache.table, rotary: rotary,
      sinks: sinks, trainedLength: trainedLength)
  }
}
