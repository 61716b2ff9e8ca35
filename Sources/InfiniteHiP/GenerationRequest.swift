// SPDX-License-Identifier: Apache-2.0

public import HiPTokenization

/// What a session is to read, and how it is to answer.
public struct GenerationRequest: Sendable, Hashable {
  /// What to read, behind what the session has read before.
  ///
  /// Its end is the question: beyond the trained length the default attention answers from the passages that
  /// its last 63 tokens draw on. A question that was read before, by another request, has no say in that.
  public var prompt: Prompt
  /// How the next token is chosen.
  public var sampling: SamplingOptions
  /// The most tokens to generate; 0 only reads.
  public var maximumTokens: Int
  /// Texts that end the answer; they are not part of it.
  public var stop: [String]

  /// Text in one of its forms.
  public enum Prompt: Sendable, Hashable {
    /// Text as it is. Names of control tokens become those tokens.
    case raw(String)
    /// Text in which nothing is a control token, such as a document.
    case text(String)
    /// A turn of a conversation in the model's chat template, up to where the assistant speaks.
    case message(ChatMessage)
    /// Template parts.
    case pieces([ChatTemplate.Piece])
    /// Ids as they are: no begin-of-text token is added.
    case tokens([TokenID])
  }

  /// Creates a request with greedy sampling.
  public init(
    _ prompt: Prompt, sampling: SamplingOptions = SamplingOptions(), maximumTokens: Int = 512,
    stop: [String] = []
  ) {
    self.prompt = prompt
    self.sampling = sampling
    self.maximumTokens = maximumTokens
    self.stop = stop
  }

  /// Whether the answer is a turn of its own, and not the continuation of a text.
  var opensTurn: Bool {
    switch prompt {
    case .message, .pieces: true
    case .raw, .text, .tokens: false
    }
  }

  /// Throws unless it can be served.
  func check() throws(InfiniteHiPError) {
    try sampling.check()
    guard maximumTokens >= 0 else {
      throw InfiniteHiPError(
        .request, "the most tokens to generate are \(maximumTokens); give 0 or more")
    }
  }
}

/// What happens while a request is served, in this order: progress, texts, one completion.
public enum GenerationEvent: Sendable, Hashable {
  /// So many of the prompt's tokens have been read.
  case progress(prefilled: Int, of: Int)
  /// More of the answer; whole characters.
  case text(String)
  /// The end.
  case finished(Completion)
}

/// An answer's end, with counts and timings.
public struct Completion: Sendable, Hashable {
  /// Why an answer ended.
  public enum Reason: String, Sendable, Hashable, Codable {
    /// The model ended its turn, or a stop text came.
    case stop
    /// The most tokens asked for were generated.
    case length
    /// The context is full.
    case context
  }

  /// Why the answer ended.
  public let reason: Reason
  /// Tokens of the whole context that the answer followed.
  public let promptTokens: Int
  /// Those of them that had been read before this request.
  public let cachedTokens: Int
  /// Tokens generated, the one that ended the turn included.
  public let completionTokens: Int
  /// Name of the attention policy that ran on the last token.
  public let policy: String
  /// Time from the request to the end of reading its prompt.
  public let prefillSeconds: Double
  /// Time from there to the end of the answer.
  public let decodeSeconds: Double
}
