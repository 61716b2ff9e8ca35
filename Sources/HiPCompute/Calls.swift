// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
internal import HiPTensors

/// Looks up rows of an embedding table: output row i = table row `tokens[i]`.
public struct EmbedCall: Sendable {
  /// Ids, which must be below the table's number of rows.
  public let tokens: [Int32]
  /// `[vocabulary, hidden]`, any element type.
  public let table: DeviceTensor
  /// `[tokens, hidden]`, float32.
  public let output: DeviceTensor

  /// Stores the arguments, which must fit together.
  public init(tokens: [Int32], table: DeviceTensor, output: DeviceTensor) {
    precondition(output.rows == tokens.count && output.columns == table.columns)
    self.tokens = tokens
    self.table = table
    self.output = output
  }
}

/// Root-mean-square normalisation of rows.
public struct NormCall: Sendable {
  /// `[rows, n]`, float32.
  public let input: DeviceTensor
  /// `[1, n]`, float32.
  public let weight: DeviceTensor
  /// Added to the mean square.
  public let epsilon: Float
  /// `[rows, n]`, float32.
  public let output: DeviceTensor

  /// Stores the arguments, which must fit together.
  public init(input: DeviceTensor, weight: DeviceTensor, epsilon: Float, output: DeviceTensor) {
    precondition(input.rows == output.rows && input.columns == output.columns)
    precondition(weight.columns == input.columns && weight.element == .float32)
    self.input = input
    self.weight = weight
    self.epsilon = epsilon
    self.output = output
  }
}

/// A product with a weight matrix: output = input · weightᵀ.
public struct MatmulCall: Sendable {
  /// What happens to what the output holds.
  public enum Update: Sendable { case replace, add }

  /// `[rows, n]`, float32.
  public let input: DeviceTensor
  /// `[m, n]`, any element type.
  public let weight: DeviceTensor
  /// `[rows, m]`, float32.
  public let output: DeviceTensor
  /// What happens to what the output holds.
  public let update: Update

  /// Stores the arguments, which must fit together.
  public init(
    input: DeviceTensor, weight: DeviceTensor, output: DeviceTensor, update: Update = .replace
  ) {
    precondition(input.columns == weight.columns && output.columns == weight.rows)
    precondition(input.rows == output.rows)
    precondition(input.element == .float32 && output.element == .float32)
    self.input = input
    self.weight = weight
    self.output = output
    self.update = update
  }
}

/// The gated activation of SwiGLU: gate = silu(gate) * up, in place.
public struct GateCall: Sendable {
  /// `[rows, n]`, float32; replaced by the result.
  public let gate: DeviceTensor
  /// `[rows, n]`, float32.
  public let up: DeviceTensor

  /// Stores the arguments, which must fit together.
  public init(gate: DeviceTensor, up: DeviceTensor) {
    precondition(gate.rows == up.rows && gate.columns == up.columns)
    self.gate = gate
    self.up = up
  }
}

/// Order of a head's elements as the projections deliver them.
public enum RotaryOrder: Sendable, Hashable {
  /// Element i turns with element i + half.
  case halves
  /// Elements 2i and 2i + 1 turn together (GGUF files of the `llama` architecture).
  case interleaved
}

/// The keys and values that a layer of a sequence reads.
public struct KVView: Sendable {
  /// The sequence's pages.
  public let pages: any DevicePageTable
  /// The layer, counted from 0.
  public let layer: Int

  /// Stores the arguments, which must fit together.
  public init(pages: any DevicePageTable, layer: Int) {
    self.pages = pages
    self.layer = layer
  }
}

/// Stores new keys and values behind those of a sequence, and completes its sketches.
///
/// Queries and keys are brought into half-split order; nothing is rotated.
public struct AppendCall: Sendable {
  /// `[tokens, heads * headSize]`, float32; reordered in place.
  ///
  /// Nil when there are none to reorder.
  public let queries: DeviceTensor?
  /// `[tokens, kvHeads * headSize]`, float32.
  public let keys: DeviceTensor
  /// `[tokens, kvHeads * headSize]`, float32.
  public let values: DeviceTensor
  /// How the projections order a head's elements.
  public let order: RotaryOrder
  /// Elements of a head that take part in rotation.
  public let rotaryDimensions: Int
  /// Where they go.
  public let into: KVView
  /// Position of the first new token.
  public let start: Int

  /// Stores the arguments, which must fit together.
  public init(
    projections: (queries: DeviceTensor?, keys: DeviceTensor, values: DeviceTensor),
    order: RotaryOrder, rotaryDimensions: Int, into: KVView, start: Int
  ) {
    precondition(projections.queries.map { $0.rows == projections.keys.rows } ?? true)
    precondition(projections.values.rows == projections.keys.rows)
    queries = projections.queries
    keys = projections.keys
    values = projections.values
    self.order = order
    self.rotaryDimensions = rotaryDimensions
    self.into = into
    self.start = start
  }
}

/// The queries of consecutive tokens of a sequence, with what they read.
public struct AttentionInput: Sendable {
  /// `[tokens, heads * headSize]`, float32, half-split order, not rotated, not scaled.
  public let queries: DeviceTensor
  /// The heads.
  public let shape: AttentionShape
  /// Position of the first query.
  public let start: Int
  /// The keys and values that are read.
  public let cache: KVView
  /// Nil when nothing is to be rotated.
  public let rotary: RotaryEmbedding?
  /// What position schemes and sharpening take for the trained length.
  public let trainedLength: Int

  /// Stores the arguments, which must fit together.
  public init(
    queries: DeviceTensor, shape: AttentionShape, start: Int, cache: KVView,
    rotary: RotaryEmbedding?, trainedLength: Int
  ) {
    self.trainedLength = trainedLength
    precondition(queries.columns == shape.heads * shape.headSize)
    self.queries = queries
    self.shape = shape
    self.start = start
    self.cache = cache
    self.rotary = rotary
  }
}

/// Runs pruning stages and leaves the selected blocks in `state`.
public struct SelectCall: Sendable {
  /// The queries, and what they read.
  public let input: AttentionInput
  /// The policy as this layer and these positions have it.
  public let pruning: HierarchicalPruning
  /// The first stage to compute; the ones before it are taken from `state`, or replaced by `passages`.
  public let firstStage: Int
  /// What the last stage selects from in place of what the ones before it keep; nil: there is no such
  /// restriction.
  public let passages: Passages?
  /// Keys that the candidate grid spans, at least up to the last query.
  public let gridLength: GridLength
  /// Where the blocks go, and where earlier stages are found.
  public let state: any SelectionState

  /// How far the candidate grid reaches.
  ///
  /// Matters to chunk-indexed positions, which count chunks.
  public enum GridLength: Sendable, Hashable {
    /// Up to the end of each block of queries, or of the blocks that share the first stage, so that a
    /// text read in pieces that end there gives what it gives whole.
    case ownBlock
    /// This many keys for every block.
    case fixed(Int)
  }

  /// Stores the arguments, which must fit together.
  public init(
    input: AttentionInput, pruning: HierarchicalPruning, firstStage: Int = 0,
    gridLength: GridLength = .ownBlock, state: any SelectionState
  ) {
    precondition(firstStage == 0 || input.queries.rows == 1, "only decoding reuses stages")
    self.input = input
    self.pruning = pruning.resolved(at: input.start)
    self.firstStage = firstStage
    passages = nil
    self.gridLength = gridLength
    self.state = state
  }
}

extension SelectCall {
  /// A selection by the last stage alone, among the keys of some passages.
  public init(
    input: AttentionInput, pruning: HierarchicalPruning, passages: Passages,
    state: any SelectionState
  ) {
    self.input = input
    self.pruning = pruning.resolved(at: input.start)
    firstStage = max(0, pruning.stages.count - 1)
    self.passages = passages
    gridLength = .ownBlock
    self.state = state
  }
}

/// Attention of queries over the keys that a policy lets them reach.
public struct AttendCall: Sendable {
  /// The keys that are reached.
  public enum Reach: Sendable {
    case dense
    case streaming(StreamingWindow)
    /// Sink, window and the blocks that `state` holds for these queries.
    case selected(HierarchicalPruning, any SelectionState)
    /// The keys that `state` still holds; it evicts after every block of queries.
    case heavyHitters(HeavyHitters, any SelectionState)
  }

  /// The queries, and what they read.
  public let input: AttentionInput
  /// The keys that are reached.
  public let reach: Reach
  /// `[tokens, heads * headSize]`, float32.
  public let output: DeviceTensor

  /// Stores the arguments, which must fit together.
  public init(input: AttentionInput, reach: Reach, output: DeviceTensor) {
    precondition(output.rows == input.queries.rows && output.columns == input.queries.columns)
    self.input = input
    self.reach = reach
    self.output = output
  }
}
