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
  /// What the answer must look like; nil: as it likes.
  public var constraint: AnswerConstraint?
  /// How many alternatives are reported with each token, of which 0 to 20; nil: no tokens are reported.
  public var alternatives: Int?
  /// Control tokens of the answer.
  public var controlTokens: ControlTokens = .hidden
  /// Whether tokens that end a turn end the answer.
  public var endings: Endings = .ofTheModel

  /// What becomes of control tokens in an answer's text.
  public enum ControlTokens: Sendable, Hashable {
    /// They are left out.
    case hidden
    /// They stand there by their names, for whoever reads calls of tools out of the text.
    case named
  }

  /// What ends an answer besides its length and stop texts.
  public enum Endings: Sendable, Hashable {
    /// The tokens by which the model ends a turn.
    case ofTheModel
    /// Nothing: those tokens are text without characters.
    case none
  }

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
    /// Ids of a conversation, up to where the assistant speaks.
    case turn([TokenID])
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
    case .message, .pieces, .turn: true
    case .raw, .text, .tokens: false
    }
  }

  /// Throws unless it can be served by a model with a vocabulary of so many tokens.
  func check(vocabularySize: Int) throws(InfiniteHiPError) {
    try sampling.check()
    if let token = sampling.bias.keys.first(where: { $0 < 0 || $0 >= vocabularySize }) {
      throw InfiniteHiPError(
        .request,
        "there is a bias for token \(token), which is not of the vocabulary, 0 to \(vocabularySize - 1)"
      )
    }
    if let alternatives, !(0...20).contains(alternatives) {
      throw InfiniteHiPError(
        .request, "\(alternatives) alternatives of each token are asked for; give 0 to 20")
    }
    guard maximumTokens >= 0 else {
      throw InfiniteHiPError(
        .request, "the most tokens to generate are \(maximumTokens); give 0 or more")
    }
  }
}

/// What happens while a request is served, in this order: progress, tokens and texts, one completion.
public enum GenerationEvent: Sendable, Hashable {
  /// So many of the prompt's tokens have been read.
  case progress(prefilled: Int, of: Int)
  /// A token of the answer, where those are reported; comes before the text that it completes.
  case token(GeneratedToken)
  /// More of the answer; whole characters.
  case text(String)
  /// The end.
  case finished(Completion)
}

/// A token of an answer, and how probable it was.
public struct GeneratedToken: Sendable, Hashable {
  /// A token and its probability.
  public struct Choice: Sendable, Hashable {
    /// The token.
    public let id: TokenID
    /// Logarithm of its probability, penalties and constraints included, before the temperature.
    public let logProbability: Double

    /// Stores the two.
    public init(id: TokenID, logProbability: Double) {
      self.id = id
      self.logProbability = logProbability
    }
  }

  /// What was chosen.
  public let choice: Choice
  /// The most probable ones, the best first.
  public let alternatives: [Choice]
}

/// A stretch of the context that a question drew on, or an answer attended to.
public struct ReadPassage: Sendable, Hashable {
  /// Positions of its tokens.
  public let tokens: Range<Int>
  /// Its share of what attention was measured to draw from far away, at most 1.
  public let share: Float
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
  /// The first token that differed from a text that was read before, where only part of that could be used.
  public let firstDifference: Int?
  /// Tokens generated, the one that ended the turn included.
  public let completionTokens: Int
  /// Name of the attention policy that ran on the last token.
  public let policy: String
  /// Time from the request to the end of reading its prompt.
  public let prefillSeconds: Double
  /// Time from there to the end of the answer.
  public let decodeSeconds: Double
  /// The tokens of the answer.
  public let tokens: [TokenID]
  /// Where the answer looked, the most first; empty where attention was dense.
  public let passages: [ReadPassage]
  /// What users should know of the files below memory: what was damaged and computed anew, what could not be written.
  public let notices: [String]
}
