// SPDX-License-Identifier: Apache-2.0

internal import HiPTensors

/// Looks up rows of an embedding table: output row i = scale * table row `tokens[i]`.
public struct EmbedCall {
  /// Ids, which must be below the table's number of rows.
  public let tokens: [Int32]
  /// `[vocabulary, hidden]`, any element type.
  public let table: DeviceTensor
  /// What the rows are multiplied by.
  public let scale: Float
  /// `[tokens, hidden]`, float32.
  public let output: DeviceTensor

  /// Stores the arguments, which must fit together.
  public init(tokens: [Int32], table: DeviceTensor, scale: Float = 1, output: DeviceTensor) {
    precondition(output.rows == tokens.count && output.columns == table.columns)
    self.tokens = tokens
    self.scale = scale
    self.table = table
    self.output = output
  }
}

/// Root-mean-square normalisation of rows.
///
/// A row whose mean square is not finite is reported by `submit`, as a fault of what precedes.
public struct NormCall {
  /// What happens to what the output holds.
  public enum Update: Sendable, Hashable {
    case replace
    /// The input is overwritten on the way.
    case add
  }

  /// The layer that the input comes out of; nil: the embedding.
  public let layer: Int?
  /// Row of the step that the input's first row belongs to.
  public let firstRow: Int
  /// Rows of the input that belong to one row of the step, as where each head is normalised by itself.
  public let rowsPerToken: Int
  /// `[rows, n]`, float32.
  public let input: DeviceTensor
  /// `[1, n]`, float32.
  public let weight: DeviceTensor
  /// Added to the mean square.
  public let epsilon: Float
  /// `[rows, n]`, float32.
  public let output: DeviceTensor
  /// What happens to what the output holds.
  public let update: Update

  /// Stores the arguments, which must fit together.
  public init(
    layer: Int?, firstRow: Int = 0, rowsPerToken: Int = 1, input: DeviceTensor,
    weight: DeviceTensor, epsilon: Float, output: DeviceTensor, update: Update = .replace
  ) {
    self.update = update
    precondition(input.rows == output.rows && input.columns == output.columns)
    precondition(weight.columns == input.columns && weight.element == .float32)
    self.layer = layer
    self.firstRow = firstRow
    self.rowsPerToken = rowsPerToken
    self.input = input
    self.weight = weight
    self.epsilon = epsilon
    self.output = output
  }
}

/// A product with a weight matrix: output = scale * (input · weightᵀ) + bias.
public struct MatmulCall {
  /// What happens to what the output holds.
  public enum Update: Sendable, Hashable { case replace, add }

  /// `[rows, n]`, float32.
  public let input: DeviceTensor
  /// `[m, n]`, any element type.
  public let weight: DeviceTensor
  /// `[1, m]`, float32.
  public let bias: DeviceTensor?
  /// `[rows, m]`, float32.
  public let output: DeviceTensor
  /// What happens to what the output holds.
  public let update: Update
  /// What the products are multiplied by.
  public let scale: Float
  /// Last rows that are single tokens of different sequences.
  ///
  /// Each is computed by the arithmetic of one row alone, however many there are; the rows before by that of
  /// many rows, however few. So a row's result never depends on which rows stand beside it.
  public let decodeRows: Int

  /// Stores the arguments, which must fit together.
  public init(
    input: DeviceTensor, weight: DeviceTensor, bias: DeviceTensor? = nil, output: DeviceTensor,
    update: Update = .replace, scale: Float = 1, decodeRows: Int = 0
  ) {
    self.scale = scale
    precondition(input.columns == weight.columns && output.columns == weight.rows)
    precondition(input.rows == output.rows && (0...input.rows).contains(decodeRows))
    precondition(input.element == .float32 && output.element == .float32)
    precondition(bias.map { $0.columns == weight.rows && $0.element == .float32 } ?? true)
    self.input = input
    self.weight = weight
    self.bias = bias
    self.output = output
    self.update = update
    self.decodeRows = decodeRows
  }
}
