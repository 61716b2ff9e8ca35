// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
internal import HiPTensors

/// Order of a head's elements as the projections deliver them.
public enum RotaryOrder: Sendable, Hashable {
  /// Element i rotates with element i + half.
  case halves
  /// Elements 2i and 2i + 1 rotate together (GGUF files of the `llama` architecture).
  case interleaved
}

/// Consecutive tokens of one sequence in a batch.
public struct SequenceRows {
  /// Their rows in the call's tensors.
  public let rows: Range<Int>
  /// Position of the first.
  public let start: Int
  /// The blocks of the sequence.
  public let table: any DeviceBlockTable

  /// Stores the parts.
  public init(rows: Range<Int>, start: Int, table: any DeviceBlockTable) {
    self.rows = rows
    self.start = start
    self.table = table
  }
}

/// Stores new keys and values behind those of each sequence, and completes its sketches.
///
/// Queries and keys are brought into half-split order; nothing is rotated. A row of keys or values that is not
/// finite is reported by `submit`.
public struct AppendCall {
  /// The layer, counted from 0.
  public let layer: Int
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
  /// Where each sequence's rows go.
  public let batch: [SequenceRows]

  /// Stores the arguments, which must fit together.
  public init(
    layer: Int, projections: (queries: DeviceTensor?, keys: DeviceTensor, values: DeviceTensor),
    order: RotaryOrder, rotaryDimensions: Int, batch: [SequenceRows]
  ) {
    precondition(projections.queries.map { $0.rows == projections.keys.rows } ?? true)
    precondition(projections.values.rows == projections.keys.rows)
    precondition(batch.allSatisfy { $0.rows.upperBound <= projections.keys.rows })
    self.layer = layer
    queries = projections.queries
    keys = projections.keys
    values = projections.values
    self.order = order
    self.rotaryDimensions = rotaryDimensions
    self.batch = batch
  }
}

/// The queries of consecutive tokens of one sequence, with what they attend over.
public struct AttentionInput {
  /// `[tokens, heads * headSize]`, float32 or as keys are stored, half-split order, not rotated, not scaled.
  public let queries: DeviceTensor
  /// The heads.
  public let shape: AttentionShape
  /// Position of the first query.
  public let start: Int
  /// The blocks of the sequence.
  public let table: any DeviceBlockTable
  /// Nil when nothing is to be rotated.
  public let rotary: RotaryEmbedding?
  /// `[1, heads]`, float32: a logit of each head that takes part in the softmax without a value (gpt-oss).
  public let sinks: DeviceTensor?
  /// What position schemes take for the trained length.
  public let trainedLength: Int

  /// Stores the arguments, which must fit together.
  public init(
    queries: DeviceTensor, shape: AttentionShape, start: Int, table: any DeviceBlockTable,
    rotary: RotaryEmbedding?, sinks: DeviceTensor? = nil, trainedLength: Int
  ) {
    precondition(queries.columns == shape.heads * shape.headSize)
    precondition(sinks.map { $0.columns == shape.heads && $0.element == .float32 } ?? true)
    self.sinks = sinks
    self.queries = queries
    self.shape = shape
    self.start = start
    self.table = table
    self.rotary = rotary
    self.trainedLength = trainedLength
  }
}

/// Runs pruning stages for each sequence and leaves the selected blocks in its state.
public struct SelectCall {
  /// The layer, counted from 0.
  public let layer: Int
  /// One per sequence, or run of its queries.
  public let batch: [Item]

  /// Stores the arguments.
  public init(layer: Int, batch: [Item]) {
    self.layer = layer
    self.batch = batch
  }

  /// What the stages start from.
  public enum Source: Sendable, Hashable {
    /// All candidates, on a grid up to the queries.
    case grid
    /// What the stage before this one has kept at an earlier token; for single tokens.
    case resume(stage: Int)
    /// The keys of some passages, from which the last stage alone selects.
    case among(Passages)
  }

  /// How far the candidate grid reaches.
  ///
  /// Matters to chunk-indexed positions, which count chunks.
  public enum GridLength: Sendable, Hashable {
    /// Up to the end of each block of queries, or of the blocks that share the first stage, so that a
    /// text that comes in pieces that end there gives what it gives whole.
    case ownBlock
    /// This many keys for every block.
    case fixed(Int)
  }

  /// What is reported beside the selected blocks.
  public enum Report: Sendable, Hashable {
    case nothing
    /// What each block holds of the softmax mass, as votes for passages: `submit` brings those of all layers
    /// together, under this number.
    case votes(Int)
    /// The scores of the first stage's chunks, which `SelectionState` then has.
    case scores
  }

  /// The selection of one sequence.
  public struct Item {
    /// The queries, and what they attend over.
    public let input: AttentionInput
    /// The policy as this layer and these positions have it.
    public let pruning: HierarchicalPruning
    /// What the stages start from.
    public let source: Source
    /// How far the candidate grid reaches.
    public let gridLength: GridLength
    /// Where the blocks go, and where earlier stages are found.
    public let state: any SelectionState
    /// What is reported besides.
    public let report: Report

    /// Stores the arguments, which must fit together.
    public init(
      input: AttentionInput, pruning: HierarchicalPruning, source: Source = .grid,
      gridLength: GridLength = .ownBlock, state: any SelectionState, report: Report = .nothing
    ) {
      if case .resume = source {
        precondition(input.queries.rows == 1, "only single tokens go on from earlier stages")
      }
      self.input = input
      self.pruning = pruning.resolved(at: input.start)
      self.source = source
      self.gridLength = gridLength
      self.state = state
      self.report = report
    }
  }
}

/// Attention of each sequence's queries over the keys that a policy lets them reach.
public struct AttendCall {
  /// The layer, counted from 0.
  public let layer: Int
  /// One per sequence, or run of its queries.
  public let batch: [Item]

  /// Stores the arguments.
  public init(layer: Int, batch: [Item]) {
    self.layer = layer
    self.batch = batch
  }

  /// The keys that are reached.
  public enum Reach {
    case dense
    case streaming(StreamingWindow)
    /// Sink, window and the blocks that the state holds for these queries.
    case selected(HierarchicalPruning, any SelectionState)
    /// The keys that the state still holds; it evicts after every block of queries.
    case heavyHitters(HeavyHitters, any HeavyHitterState)
  }

  /// The attention of one sequence.
  public struct Item {
    /// The queries, and what they attend over.
    public let input: AttentionInput
    /// The keys that are reached.
    public let reach: Reach
    /// `[tokens, heads * headSize]`, as the queries.
    public let output: DeviceTensor

    /// Stores the arguments, which must fit together.
    public init(input: AttentionInput, reach: Reach, output: DeviceTensor) {
      precondition(output.rows == input.queries.rows && output.columns == input.queries.columns)
      precondition(output.element == input.queries.element)
      self.input = input
      self.reach = reach
      self.output = output
    }
  }
}
