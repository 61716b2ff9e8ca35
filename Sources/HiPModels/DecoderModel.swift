// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
public import HiPCompute
public import HiPModelFiles
internal import HiPTensors

/// A decoder's weights on a device, and the forward pass.
///
/// Belongs to the engine's thread.
public final class DecoderModel {
  /// What the weights make up.
  public let architecture: DecoderArchitecture
  /// The device.
  public let backend: any ComputeBackend
  private let embedding: DeviceTensor
  private let layers: [Layer]
  private let outputNorm: DeviceTensor
  private let output: DeviceTensor
  private let activations: Activations

  private struct Layer {
    let attentionNorm, query, key, value, attentionOutput: DeviceTensor
    let feedForwardNorm, gate, up, down: DeviceTensor
  }

  /// Tokens that one call takes at most.
  public static let largestStep = 1024

  /// Places the weights on a device.
  public init(
    _ architecture: DecoderArchitecture, weights: any WeightSource, backend: any ComputeBackend
  ) throws {
    self.architecture = architecture
    self.backend = backend
    let names = WeightNames.gguf
    let hidden = architecture.hiddenSize
    let shape = architecture.attention
    func matrix(_ name: String, _ rows: Int, _ columns: Int) throws -> DeviceTensor {
      let weight = try weights.weight(named: name, rows: rows, columns: columns)
      return try backend.makeTensor(
        weight.bytes, element: weight.element, rows: rows, columns: columns)
    }
    func vector(_ name: String) throws -> DeviceTensor {
      let tensor = try matrix(name, 1, hidden)
      guard tensor.element == .float32 else {
        throw FileError(
          path: weights.path,
          problem: "the tensor \"\(name)\" is stored as \(tensor.element.rawValue); norms are "
            + "expected as F32")
      }
      return tensor
    }
    embedding = try matrix(names.embedding, architecture.vocabularySize, hidden)
    outputNorm = try vector(names.outputNorm)
    output =
      weights.hasWeight(named: names.output)
      ? try matrix(names.output, architecture.vocabularySize, hidden) : embedding
    layers = try (0..<architecture.layerCount).map { index in
      Layer(
        attentionNorm: try vector(names.attentionNorm(index)),
        query: try matrix(names.query(index), shape.heads * shape.headSize, hidden),
        key: try matrix(names.key(index), shape.kvHeads * shape.headSize, hidden),
        value: try matrix(names.value(index), shape.kvHeads * shape.headSize, hidden),
        attentionOutput: try matrix(
          names.attentionOutput(index), hidden, shape.heads * shape.headSize),
        feedForwardNorm: try vector(names.feedForwardNorm(index)),
        gate: try matrix(names.gate(index), architecture.feedForwardSize, hidden),
        up: try matrix(names.up(index), architecture.feedForwardSize, hidden),
        down: try matrix(names.down(index), hidden, architecture.feedForwardSize))
    }
    activations = try Activations(architecture, backend)
  }

  /// Every matrix that a token is multiplied with.
  private var matrices: [DeviceTensor] {
    layers.flatMap {
      [$0.query, $0.key, $0.value, $0.attentionOutput, $0.gate, $0.up, $0.down]
    } + [output]
  }

  /// Bytes of weights that a written token reads.
  public var streamedByteCount: Int { matrices.reduce(0) { $0 + $1.rows * $1.rowByteCount } }

  /// Multiply-adds with weights that a read token takes; logits are made for the last one only.
  public var multiplicationCount: Int {
    matrices.dropLast().reduce(0) { $0 + $1.rows * $1.columns }
  }

  /// Which logits a step delivers.
  public enum LogitsRequest: Sendable {
    case none
    /// Those of the step's last token.
    case last
    /// Those of every token of the step.
    case all
  }

  /// Reads `tokens`: stores them behind those of `cache` and returns the logits asked for,
  /// `[rows, vocabulary]`, row by row.
  public func read(
    _ tokens: [Int32], cache: SequenceCache, attention: LayerAttention, logits: LogitsRequest,
    observe: ((LayerObservation) -> Void)? = nil
  ) throws(ComputeError) -> [Float] {
    cache.look(at: nil)
    return try forward(
      tokens, cache: cache, attention: attention, logits: logits, observe: observe)
  }

  /// Reads the end of a prompt, `LayerAttention.questionLength` tokens or fewer, and returns the logits of its
  /// last token.
  ///
  /// Under a policy that focuses, twice: what the tokens draw on, looking everywhere, is where they look then.
  public func ask(
    _ tokens: [Int32], cache: SequenceCache, attention: LayerAttention
  ) throws(ComputeError) -> [Float] {
    cache.look(at: nil)
    let start = cache.length
    if let (pruning, focus) = attention.focusing(at: start) {
      precondition(tokens.count < pruning.queryBlock, "a question is an unfinished block")
      let question = try votes(of: tokens, cache, attention, pruning, focus)
      let passages = question.best(keep: focus.keep, end: start - pruning.pruningWindow)
      cache.look(at: SequenceCache.Focused(question: question, passages: passages))
    }
    do {
      return try forward(tokens, cache: cache, attention: attention, logits: .last)
    } catch {
      // The passages of a question that has not been read.
      cache.look(at: nil)
      throw error
    }
  }

  /// Stores a token of an answer and returns the logits behind it.
  ///
  /// After an `ask` that has focused, it looks where the question did.
  public func write(
    _ token: Int32, cache: SequenceCache, attention: LayerAttention
  ) throws(ComputeError) -> [Float] {
    let before = cache.focused
    do {
      if var focused = before, let (pruning, focus) = attention.focusing(at: cache.length) {
        focused.writtenCount += 1
        if focused.writtenCount % focus.refreshInterval == 0 {
          let end = cache.length - pruning.pruningWindow
          let token = try votes(of: [token], cache, attention, pruning, focus)
          let half = focus.keep / focus.passage / 2 * focus.passage
          focused.passages = focused.question.best(keep: focus.keep - half, end: end)
            .joined(with: token.best(keep: half, end: end))
        }
        cache.look(at: focused)
      }
      return try forward([token], cache: cache, attention: attention, logits: .last)
    } catch {
      cache.look(at: before)
      throw error
    }
  }

  /// The votes of tokens that look everywhere, which are not kept.
  private func votes(
    of tokens: [Int32], _ cache: SequenceCache, _ attention: LayerAttention,
    _ pruning: HierarchicalPruning, _ focus: Focus
  ) throws(ComputeError) -> PassageVotes {
    let start = cache.length
    cache.look(at: nil)
    // All stages are computed: those of steps before would do for other tokens.
    cache.decodingStep = 0
    var votes = PassageVotes(focus, sink: pruning.sink)
    _ = try forward(
      tokens, cache: cache, attention: attention, logits: .none,
      selected: { $0.count(into: &votes) })
    cache.truncate(to: start)
    return votes
  }

  private func forward(
    _ tokens: [Int32], cache: SequenceCache, attention: LayerAttention, logits: LogitsRequest,
    observe: ((LayerObservation) -> Void)? = nil,
    selected: ((any SelectionState) -> Void)? = nil
  ) throws(ComputeError) -> [Float] {
    let count = tokens.count
    precondition((1...Self.largestStep).contains(count), "a step takes 1 to 1024 tokens")
    try cache.reserve(count)
    let start = cache.length
    let isDecoding = count == 1 && start > 0
    let a = activations.views(count)
    backend.embed(EmbedCall(tokens: tokens, table: embedding, output: a.hidden))
    for (index, layer) in layers.enumerated() {
      normalize(a.hidden, layer.attentionNorm, into: a.normed)
      backend.multiply([
        MatmulCall(input: a.normed, weight: layer.query, output: a.query),
        MatmulCall(input: a.normed, weight: layer.key, output: a.key),
        MatmulCall(input: a.normed, weight: layer.value, output: a.value),
      ])
      let view = cache.view(layer: index)
      backend.append(
        AppendCall(
          projections: (a.query, a.key, a.value), order: architecture.rotaryOrder,
          rotaryDimensions: architecture.rotary.frequencies.count * 2, into: view, start: start))
      let step = LayerAttention.Step(
        queries: a.query, output: a.attended, start: start, view: view,
        selection: cache.selections[index], decodingStep: isDecoding ? cache.decodingStep : nil,
        passages: cache.focused?.passages)
      observe?(
        LayerObservation(
          layer: index, input: step.input(0..<count, architecture),
          selection: cache.selections[index], backend: backend))
      attention.run(step, architecture: architecture, backend: backend)
      selected?(cache.selections[index])
      backend.multiply([
        MatmulCall(
          input: a.attended, weight: layer.attentionOutput, output: a.hidden, update: .add)
      ])
      normalize(a.hidden, layer.feedForwardNorm, into: a.normed)
      backend.multiply([
        MatmulCall(input: a.normed, weight: layer.gate, output: a.gate),
        MatmulCall(input: a.normed, weight: layer.up, output: a.up),
      ])
      backend.activate(GateCall(gate: a.gate, up: a.up))
      backend.multiply([
        MatmulCall(input: a.gate, weight: layer.down, output: a.hidden, update: .add)
      ])
    }
    cache.advance(count)
    // Dense steps and those of an answer that looks at passages leave nothing that stages could go on from.
    let isResumable = isDecoding && start >= attention.denseLength && cache.focused == nil
    cache.decodingStep = isResumable ? cache.decodingStep + 1 : 0
    return try readLogits(logits, a)
  }

  private func normalize(_ input: DeviceTensor, _ weight: DeviceTensor, into output: DeviceTensor) {
    backend.normalize(
      NormCall(
        input: input, weight: weight, epsilon: architecture.normEpsilon, output: output))
  }

  private func readLogits(
    _ request: LogitsRequest, _ a: Activations.Views
  ) throws(ComputeError) -> [Float] {
    let rows: Range<Int>
    switch request {
    case .none: return []
    case .last: rows = a.hidden.rows - 1..<a.hidden.rows
    case .all: rows = 0..<a.hidden.rows
    }
    normalize(a.hidden.rows(rows), outputNorm, into: a.normed.rows(rows))
    var result: [Float] = []
    // A few rows at a time: a vocabulary's worth of logits per token is much memory.
    for first in stride(from: rows.lowerBound, to: rows.upperBound, by: Activations.logitRows) {
      let part = first..<min(first + Activations.logitRows, rows.upperBound)
      let logits = activations.logits.rows(0..<part.count)
      backend.multiply([
        MatmulCall(input: a.normed.rows(part), weight: output, output: logits)
      ])
      result += backend.read(logits)
    }
    return result
  }
}

/// One layer of a step, when its keys are stored and it is about to attend.
///
/// Valid during the call only, on the thread that makes it.
public struct LayerObservation {
  /// The layer, counted from 0.
  public let layer: Int
  /// The step's queries, and what they may read.
  public let input: AttentionInput
  /// What earlier steps have left.
  public let selection: any SelectionState
  /// The device that holds them.
  public let backend: any ComputeBackend
}

/// Everything that a step writes, allocated once.
private struct Activations {
  /// Rows of logits that are computed at a time.
  static let logitRows = 64

  private let hidden, normed, query, key, value, attended, gate, up: DeviceTensor
  let logits: DeviceTensor

  struct Views {
    let hidden, normed, query, key, value, attended, gate, up: DeviceTensor
  }

  init(_ architecture: DecoderArchitecture, _ backend: any ComputeBackend) throws(ComputeError) {
    let shape = architecture.attention
    func tensor(_ columns: Int, rows: Int = DecoderModel.largestStep) throws(ComputeError)
      -> DeviceTensor
    {
      DeviceTensor(
        buffer: try backend.makeBuffer(byteCount: rows * columns * 4), element: .float32,
        rows: rows, columns: columns)
    }
    hidden = try tensor(architecture.hiddenSize)
    normed = try tensor(architecture.hiddenSize)
    query = try tensor(shape.heads * shape.headSize)
    key = try tensor(shape.kvHeads * shape.headSize)
    value = try tensor(shape.kvHeads * shape.headSize)
    attended = try tensor(shape.heads * shape.headSize)
    gate = try tensor(architecture.feedForwardSize)
    up = try tensor(architecture.feedForwardSize)
    logits = try tensor(architecture.vocabularySize, rows: Self.logitRows)
  }

  /// The first `count` rows of each.
  func views(_ count: Int) -> Views {
    Views(
      hidden: hidden.rows(0..<count), normed: normed.rows(0..<count),
      query: query.rows(0..<count), key: key.rows(0..<count), value: value.rows(0..<count),
      attended: attended.rows(0..<count), gate: gate.rows(0..<count), up: up.rows(0..<count))
  }
}

extension DecoderArchitecture {
  /// Bytes of everything that a step writes besides keys and values.
  public var activationByteCount: Int {
    let perToken =
      2 * hiddenSize + 2 * (attention.heads + attention.kvHeads) * attention.headSize
      + 2 * feedForwardSize
    return 4 * (perToken * DecoderModel.largestStep + vocabularySize * Activations.logitRows)
  }
}
