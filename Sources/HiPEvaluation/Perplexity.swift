// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
internal import HiPModels
public import HiPTokenization
public import InfiniteHiP

/// Negative log-likelihood of a text by position, in nats per token.
public struct Perplexity: Sendable, Encodable {
  /// Positions `from` ..< `to` and their mean.
  public struct Bucket: Sendable, Encodable {
    public let from, to: Int
    /// Mean over its tokens, in nats.
    public let meanNLL: Double
  }

  /// How a text is read.
  public enum Reading: Sendable {
    /// Whole, under a policy.
    case policy(AttentionChoice)
    /// Densely in windows of the trained length, each half new: what can be done without any other
    /// policy. The first half of a window is context, read twice.
    case sliding

    /// The name in reports.
    public var name: String {
      switch self {
      case .policy(let choice): choice.name
      case .sliding: "sliding"
      }
    }
  }

  /// Name of the task.
  public let task = "perplexity"
  /// Name of the policy.
  public let policy: String
  /// Tokens that were predicted.
  public let tokens: Int
  /// Mean over its tokens, in nats.
  public let meanNLL: Double
  /// Means by position.
  public let buckets: [Bucket]

  private enum CodingKeys: String, CodingKey { case task, policy, tokens, meanNLL, buckets }

  /// Sums up the values of tokens 1, 2, …; buckets end at the trained length and its doubles.
  init(_ values: [Double], policy: String, trainedLength: Int) {
    self.policy = policy
    tokens = values.count
    func mean(_ part: ArraySlice<Double>) -> Double {
      part.isEmpty ? 0 : part.reduce(0, +) / Double(part.count)
    }
    meanNLL = mean(values[...])
    var buckets: [Bucket] = []
    var start = 0
    var end = max(1, trainedLength / 2)
    while start < values.count {
      let stop = min(end, values.count)
      buckets.append(Bucket(from: start, to: stop, meanNLL: mean(values[start..<stop])))
      start = stop
      end = max(end * 2, end + 1)
    }
    self.buckets = buckets
  }

  /// Reads `tokens` and scores every one but the first.
  public static func measure(
    _ model: LanguageModel, _ tokens: [TokenID], _ reading: Reading,
    progress: @escaping @Sendable (_ read: Int, _ of: Int) -> Void = { _, _ in }
  ) async throws -> Perplexity {
    let trained = model.architecture.trainedLength
    switch reading {
    case .policy(let choice):
      let session = try await model.makeSession(attention: choice)
      let values = try await session.negativeLogLikelihoods(of: tokens, progress: progress)
      return Perplexity(values, policy: reading.name, trainedLength: trained)
    case .sliding:
      guard let dense = AttentionChoice.named("dense") else {
        preconditionFailure("no dense preset")
      }
      var values: [Double] = []
      let half = trained / 2
      var start = 0
      while values.count < tokens.count - 1 {
        let window = Array(tokens[start..<min(tokens.count, start + trained)])
        let session = try await model.makeSession(attention: dense)
        let new = try await session.negativeLogLikelihoods(of: window)
        values += new.dropFirst(values.count - start)
        progress(values.count, tokens.count - 1)
        start += half
      }
      return Perplexity(values, policy: reading.name, trainedLength: trained)
    }
  }
}
