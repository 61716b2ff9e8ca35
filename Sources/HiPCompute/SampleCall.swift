// SPDX-License-Identifier: Apache-2.0

/// Brings what a step is asked for out of rows of logits; `submit` returns it, item by item.
public struct SampleCall {
  /// `[rows, vocabulary]`, float32.
  public let logits: DeviceTensor
  /// What they are multiplied by.
  public let scale: Float
  /// They become c tanh(x / c) then; nil: they do not.
  public let softCap: Float?
  /// In the order of the results.
  public let items: [Item]

  /// Stores the arguments, which must fit together.
  public init(
    logits: DeviceTensor, scale: Float = 1, softCap: Float? = nil, items: [Item]
  ) {
    self.scale = scale
    self.softCap = softCap
    precondition(items.allSatisfy { $0.rows.upperBound <= logits.rows })
    self.logits = logits
    self.items = items
  }

  /// What is wanted of some rows.
  public struct Item: Sendable {
    /// Rows of the logits.
    public let rows: Range<Int>
    /// What is wanted of each of them.
    public let request: Request

    /// Stores the parts.
    public init(rows: Range<Int>, request: Request) {
      self.rows = rows
      self.request = request
    }
  }

  /// What is wanted of a row.
  public enum Request: Sendable, Hashable {
    /// The most probable tokens.
    case candidates(CandidateRequest)
    /// The logits as they are.
    case logits
    /// The negative log-likelihood of these tokens, one for each row.
    case negativeLogLikelihoods([Int32])
  }
}

/// Which of a row's tokens can be sampled.
public struct CandidateRequest: Sendable, Hashable {
  /// The most of them; all with 0.
  public var count: Int
  /// As many of the most probable as together reach this probability, where `count` allows for them.
  public var mass: Double
  /// Only those with at least this share of the best one's probability; 0: any.
  public var share: Double
  /// Tokens whose logits are divided by `penalty` where positive and multiplied where negative.
  public var repeated: [Int32]
  /// 1 changes nothing.
  public var penalty: Float
  /// What is added to the logits of some tokens, behind the penalty.
  public var bias: [Int32: Float] = [:]
  /// The only tokens that may be sampled; nil: any.
  public var filter: TokenFilter?

  /// Stores the parts.
  public init(
    count: Int, mass: Double = 1, share: Double = 0, repeated: [Int32] = [], penalty: Float = 1
  ) {
    self.count = count
    self.mass = mass
    self.share = share
    self.repeated = repeated
    self.penalty = penalty
  }

  /// Whether every token of the vocabulary is wanted: those need no order.
  public var isWhole: Bool { count == 0 && mass >= 1 && share <= 0 }

  /// The most probable token alone.
  public static let greedy = CandidateRequest(count: 1)
}

/// A set of tokens that is found while the device computes the logits that it filters.
public struct TokenFilter: Sendable, Hashable {
  private let source: any TokenFilterSource

  /// The tokens that a source finds.
  public init(_ source: any TokenFilterSource) { self.source = source }

  /// Bit `id % 64` of word `id / 64` tells whether a token is in the set; waits until that is known.
  public var words: [UInt64] { source.words() }

  /// The same source.
  public static func == (left: TokenFilter, right: TokenFilter) -> Bool {
    left.source === right.source
  }

  /// By the source.
  public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(source)) }
}

/// Finds a set of tokens.
public protocol TokenFilterSource: AnyObject, Sendable {
  /// The set in bits; waits for them.
  func words() -> [UInt64]
}

/// Tokens that can be sampled, the most probable first, of equal ones the first of the vocabulary; in the
/// order of the vocabulary where the whole of it was asked for.
public struct Candidates: Sendable, Hashable {
  /// Their ids.
  public let ids: [Int32]
  /// Their logits.
  public let logits: [Float]
  /// Logarithm of the sum of the exponentials of all the row's logits.
  public let logSumExp: Double

  /// Stores the parts.
  public init(ids: [Int32], logits: [Float], logSumExp: Double) {
    self.ids = ids
    self.logits = logits
    self.logSumExp = logSumExp
  }
}

/// What a sampled item came to.
public enum SampleResult: Sendable, Hashable {
  /// One per row.
  case candidates([Candidates])
  /// `[rows, vocabulary]`.
  case logits([Float])
  /// One per row, in nats.
  case negativeLogLikelihoods([Double])
  /// A row holds logits that are not finite.
  case notFinite
}
