// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
public import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

/// A decoder's weights on a device, and the forward pass.
///
/// Belongs to the engine's thread.
public final class DecoderModel {
  /// What the weights make up.
  public let architecture: DecoderArchitecture
  /// The device.
  public let backend: any ComputeBackend
  private let weights: DecoderWeights
  private let activations: Activations

  /// Tokens of prompts that one step takes at most.
  public static let largestPrefill = 1024
  /// Sequences that one step decodes for at most.
  public static let largestDecode = 64
  static let largestStep = largestPrefill + largestDecode

  /// Places the weights on a device.
  /// - Parameter format: what matrices are rounded to; nil: they stay as they lie in their file.
  public init(
    _ plan: ModelPlan, on backend: any ComputeBackend, rounding format: WeightFormat? = nil
  ) throws {
    architecture = plan.architecture
    self.backend = backend
    weights = try DecoderWeights(plan, on: backend, rounding: format)
    activations = try Activations(architecture, backend)
  }

  /// Bytes of weights that a decoded token streams.
  public var streamedByteCount: Int {
    weights.matrices.reduce(0) { $0 + $1.rows * $1.rowByteCount }
  }

  /// Bytes of all matrices on the device.
  public var weightByteCount: Int { weights.byteCount }

  /// Multiply-adds with weights that a token of a prompt takes; logits are made for the last one only.
  public var multiplicationCount: Int {
    weights.matrices.dropLast().reduce(0) { $0 + $1.rows * $1.columns }
  }

  /// Enqueues a step for all its sequences at once.
  ///
  /// Room for the tokens has been reserved in each of `caches`.
  /// - Returns: the slice that each result belongs to, in the order in which `submit` brings them.
  public func encode(
    _ plan: StepPlan, _ caches: [SequenceCache],
    observe: ((_ slice: Int, LayerObservation) -> Void)? = nil
  ) -> [Int] {
    let a = activations.views(plan.rowCount)
    let decodeRows = plan.decodeRowCount
    func matmul(
      _ input: DeviceTensor, _ weight: DeviceTensor, _ bias: DeviceTensor? = nil,
      into output: DeviceTensor, _ update: MatmulCall.Update = .replace, scale: Float = 1
    ) -> MatmulCall {
      MatmulCall(
        input: input, weight: weight, bias: bias, output: output, update: update, scale: scale,
        decodeRows: decodeRows)
    }
    // What a block adds goes to the hidden state, or is normalised on the way.
    let sum = a.branch ?? a.hidden
    let update: MatmulCall.Update = a.branch == nil ? .add : .replace
    let batch = zip(plan.slices, plan.rows).enumerated().map { index, part in
      SequenceRows(rows: part.1, start: part.0.start, table: caches[index].table)
    }
    backend.embed(
      EmbedCall(
        tokens: plan.slices.flatMap(\.tokens), table: weights.embedding,
        scale: architecture.scales.embedding, output: a.hidden))
    for (index, layer) in weights.layers.enumerated() {
      let input = normed(a, layer.attentionNorm, after: index - 1)
      backend.multiply([
        matmul(input, layer.query, layer.queryBias, into: a.query),
        matmul(input, layer.key, layer.keyBias, into: a.key),
        matmul(input, layer.value, layer.valueBias, into: a.value),
      ])
      if let norm = layer.queryNorm { normalizeHeads(a.query, norm, after: index) }
      if let norm = layer.keyNorm { normalizeHeads(a.key, norm, after: index) }
      backend.append(
        AppendCall(
          layer: index, projections: (a.query, a.key, a.value), order: architecture.rotaryOrder,
          rotaryDimensions: architecture.rotaryDimensions, batch: batch))
      attend(plan, caches, layer: index, a, observe)
      backend.multiply([
        matmul(
          a.attended, layer.attentionOutput, layer.attentionOutputBias, into: sum, update,
          scale: architecture.scales.residual)
      ])
      addNormed(a, layer.attentionPostNorm, after: index)
      let block = architecture.layers[index].feedForward
      backend.feedForward(
        FeedForwardCall(
          input: normed(a, layer.feedForwardNorm, after: index), weights: layer.feedForward,
          activation: block.activation, workspace: activations.workspace(size: block.size),
          output: sum, update: update, scale: architecture.scales.residual,
          decodeRows: decodeRows))
      addNormed(a, layer.feedForwardPostNorm, after: index)
    }
    return encodeOutputs(of: plan, from: a.hidden)
  }

  /// The attention of a layer: what follows a selection of a sequence waits for it, not for those of others.
  private func attend(
    _ plan: StepPlan, _ caches: [SequenceCache], layer: Int, _ a: Activations.Views,
    _ observe: ((_ slice: Int, LayerObservation) -> Void)?
  ) {
    let phases = zip(plan.slices, plan.rows).enumerated().map { index, part in
      let step = LayerStep(
        architecture: architecture, layer: layer, slice: part.0, number: index,
        cache: caches[index], queries: a.query.rows(part.1), sinks: weights.layers[layer].sinks,
        output: a.attended.rows(part.1))
      observe?(
        index,
        LayerObservation(
          layer: layer, input: step.input(0..<part.1.count), store: caches[index].store,
          backend: backend))
      return step.phases
    }
    for round in 0..<(phases.map(\.count).max() ?? 0) {
      let now = phases.compactMap { $0.count > round ? $0[round] : nil }
      let selects = now.compactMap(\.select)
      if !selects.isEmpty { backend.select(SelectCall(layer: layer, batch: selects)) }
      backend.attend(AttendCall(layer: layer, batch: now.map(\.attend)))
    }
  }

  /// The hidden state as a block takes it, normalised where there is a norm.
  private func normed(
    _ a: Activations.Views, _ weight: DeviceTensor?, after layer: Int
  ) -> DeviceTensor {
    guard let weight else { return a.hidden }
    normalize(a.hidden, weight, after: layer, into: a.normed)
    return a.normed
  }

  /// Adds what a block has made to the hidden state, where that is normalised first.
  private func addNormed(_ a: Activations.Views, _ weight: DeviceTensor?, after layer: Int) {
    guard let branch = a.branch, let weight else { return }
    backend.normalize(
      NormCall(
        layer: layer, input: branch, weight: weight, epsilon: architecture.normEpsilon,
        output: a.hidden, update: .add))
  }

  private func normalize(
    _ input: DeviceTensor, _ weight: DeviceTensor, after layer: Int, into output: DeviceTensor,
    firstRow: Int = 0
  ) {
    backend.normalize(
      NormCall(
        layer: layer < 0 ? nil : layer, firstRow: firstRow, input: input, weight: weight,
        epsilon: architecture.normEpsilon, output: output))
  }

  /// Each head by itself, in place.
  private func normalizeHeads(_ rows: DeviceTensor, _ weight: DeviceTensor, after layer: Int) {
    let heads = rows.reshaped(columns: weight.columns)
    backend.normalize(
      NormCall(
        layer: layer, rowsPerToken: heads.rows / rows.rows, input: heads, weight: weight,
        epsilon: architecture.normEpsilon, output: heads))
  }

  /// Logits of the rows that are asked for, some at a time, and what is wanted of them.
  private func encodeOutputs(of plan: StepPlan, from hidden: DeviceTensor) -> [Int] {
    var owners: [Int] = []
    let lastLayer = architecture.layerCount - 1
    /// Makes logits of the normed rows and samples them.
    func deliver(_ rows: DeviceTensor, decodeRows: Int, _ items: [SampleCall.Item]) {
      let logits = activations.logits.rows(0..<rows.rows)
      backend.multiply([
        MatmulCall(input: rows, weight: weights.output, output: logits, decodeRows: decodeRows)
      ])
      backend.sample(
        SampleCall(
          logits: logits, scale: architecture.scales.logits,
          softCap: architecture.scales.logitSoftCap, items: items))
    }
    // Single rows, each by the arithmetic of one row alone.
    var singles: [(slice: Int, row: Int, request: CandidateRequest)] = []
    for (index, slice) in plan.slices.enumerated() {
      if case .candidates(let request) = slice.output {
        singles.append((index, plan.rows[index].upperBound - 1, request))
      }
    }
    for first in stride(from: 0, to: singles.count, by: Activations.logitRows) {
      let part = singles[first..<min(first + Activations.logitRows, singles.count)]
      for (place, single) in part.enumerated() {
        normalize(
          hidden.rows(single.row..<single.row + 1), weights.outputNorm, after: lastLayer,
          into: activations.last.rows(place..<place + 1), firstRow: single.row)
      }
      deliver(
        activations.last.rows(0..<part.count), decodeRows: part.count,
        part.enumerated().map { place, single in
          SampleCall.Item(rows: place..<place + 1, request: .candidates(single.request))
        })
      owners += part.map(\.slice)
    }
    for (index, slice) in plan.slices.enumerated() {
      for first in stride(from: 0, to: slice.tokens.count, by: Activations.logitRows) {
        let count = min(Activations.logitRows, slice.tokens.count - first)
        let start = plan.rows[index].lowerBound + first
        let rows = activations.last.rows(0..<count)
        func normalizeRows() {
          normalize(
            hidden.rows(start..<start + count), weights.outputNorm, after: lastLayer, into: rows,
            firstRow: start)
        }
        switch slice.output {
        case .nothing, .candidates: break
        case .hiddenState:
          normalizeRows()
          backend.sample(
            SampleCall(logits: rows, items: [SampleCall.Item(rows: 0..<count, request: .logits)]))
          owners.append(index)
        case .negativeLogLikelihoods(let targets, let alternatives):
          normalizeRows()
          var requests: [SampleCall.Request] = [
            .negativeLogLikelihoods(Array(targets[first..<first + count]))
          ]
          if alternatives > 0 {
            requests.append(.candidates(CandidateRequest(count: alternatives)))
          }
          deliver(
            rows, decodeRows: 0,
            requests.map { SampleCall.Item(rows: 0..<count, request: $0) })
          owners += requests.map { _ in index }
        }
      }
    }
    return owners
  }
}

/// One layer of a step of one sequence, when its keys are stored and it is about to attend.
///
/// Valid during the call only, on the thread that makes it.
public struct LayerObservation {
  /// The layer, counted from 0.
  public let layer: Int
  /// The step's queries, and what they may attend over.
  public let input: AttentionInput
  /// The memory of the sequence's blocks.
  public let store: any KVStore
  /// The device that holds them.
  public let backend: any ComputeBackend
}
