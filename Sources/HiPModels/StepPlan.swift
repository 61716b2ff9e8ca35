// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute

/// A sequence that an engine keeps.
public struct SequenceID: Sendable, Hashable {
  /// Counted from the first that was opened.
  public let number: Int

  /// Wraps a number.
  public init(number: Int) { self.number = number }
}

/// What a step does for one sequence.
public struct SequenceSlice: Sendable, Hashable {
  /// The sequence.
  public let sequence: SequenceID
  /// Its next tokens.
  public let tokens: [Int32]
  /// Position of the first.
  public let start: Int
  /// Tokens that the sequence is known to come to: what a rotation for long texts goes by.
  public let length: Int
  /// What the step is to the sequence.
  public let kind: Kind
  /// What the tokens attend to.
  public let attention: LayerAttention
  /// What they select from.
  public let selection: Selection
  /// What is wanted of them.
  public let output: Output

  /// What a step is to a sequence.
  public enum Kind: Sendable, Hashable {
    /// Tokens of a prompt.
    case prefill
    /// Tokens that attend everywhere, only to see what they draw on: they are not counted as stored, and their
    /// selections are votes.
    case probe
    /// One token of an answer.
    case decode
    /// Tokens of a text whose log-likelihoods are wanted.
    case score
  }

  /// What tokens select from.
  public enum Selection: Sendable, Hashable {
    /// All candidates.
    case everywhere
    /// What earlier stages have kept, in so many decoding steps since the last prefill or the end of a focus.
    case decoding(step: Int)
    /// The keys of some passages.
    case within(Passages)
  }

  /// What is wanted of a slice.
  public enum Output: Sendable, Hashable {
    case nothing
    /// The tokens that may follow the last one.
    case candidates(CandidateRequest)
    /// The negative log-likelihood of the token that follows each, and so many of the most probable ones.
    case negativeLogLikelihoods([Int32], alternatives: Int)
    /// The hidden state of each behind the last layer, normalised.
    case hiddenState
  }

  /// Stores the parts.
  public init(
    sequence: SequenceID, tokens: [Int32], start: Int, length: Int? = nil, kind: Kind,
    attention: LayerAttention, selection: Selection = .everywhere, output: Output = .nothing
  ) {
    self.length = max(length ?? 0, start + tokens.count)
    self.sequence = sequence
    self.tokens = tokens
    self.start = start
    self.kind = kind
    self.attention = attention
    self.selection = selection
    self.output = output
  }

  /// Whether its one row is computed by the arithmetic of decoding.
  public var isDecoding: Bool { kind == .decode || (kind == .probe && tokens.count == 1) }
}

/// Everything that a step does, before it is done: a value.
public struct StepPlan: Sendable, Hashable {
  /// The slices, those of decoding last.
  public let slices: [SequenceSlice]
  /// The rows of each slice in the step.
  public let rows: [Range<Int>]

  /// Puts slices together, at most one for each sequence.
  public init(_ slices: [SequenceSlice]) {
    precondition(
      Set(slices.map(\.sequence)).count == slices.count, "a step has one slice for each sequence")
    self.slices = slices.filter { !$0.isDecoding } + slices.filter(\.isDecoding)
    var end = 0
    rows = self.slices.map { slice in
      defer { end += slice.tokens.count }
      return end..<end + slice.tokens.count
    }
  }

  /// Rows of all slices.
  public var rowCount: Int { rows.last?.upperBound ?? 0 }
  /// Rows of slices that decode, which are the last.
  public var decodeRowCount: Int { slices.count { $0.isDecoding } }
}
