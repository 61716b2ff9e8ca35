// SPDX-License-Identifier: Apache-2.0

public import HiPTokenization
internal import InfiniteHiP

/// What contexts are made from.
public struct ContextRequest: Sendable {
  /// Tokens of prompt and answer together, the chat template included.
  public let length: Int
  /// Number of questions.
  public let samples: Int
  /// Seed of everything random.
  public let seed: UInt64
  /// The prose that needles are hidden in.
  public let prose: Prose
  /// Counts tokens.
  let frame: PromptFrame

  /// Stores the parts.
  public init(length: Int, samples: Int, seed: UInt64, prose: Prose, frame: PromptFrame) {
    self.length = length
    self.samples = samples
    self.seed = seed
    self.prose = prose
    self.frame = frame
  }

  /// The context of the largest multiple of `step` for which every prompt with its answer fits.
  ///
  /// `guess` is about what fits.
  func largest(
    from smallest: Int = 0, guess: Int, step: Int = 1, _ make: (Int) -> EvaluationContext
  ) throws -> EvaluationContext {
    func size(_ context: EvaluationContext) -> Int {
      let read = frame.tokenCount(context.text)
      return context.conversations.map { conversation in
        conversation.reduce(read) { $0 + frame.tokenCount(of: context.questions[$1]) }
      }.max() ?? read
    }
    let first = (smallest + step - 1) / step
    var (low, high) = (first, Int.max)
    var best = make(first * step)
    let smallestSize = size(best)
    guard smallestSize <= length else {
      throw InfiniteHiPError(
        .request,
        "the questions alone do not fit in \(length) tokens; ask fewer (--samples) or raise --lengths"
      )
    }
    var next = max(low + 1, guess / step)
    var tries = 0
    while high - low > 1 {
      let context = make(next * step)
      let tokens = size(context)
      // Contexts grow about evenly, and a few tries find the largest; where they do not, halving does.
      let perStep = max(1, Double(tokens - smallestSize) / Double(next - first))
      let even = next + Int((Double(length - tokens) / perStep).rounded(.down))
      if tokens <= length { (low, best) = (next, context) } else { high = next }
      tries += 1
      next = high < .max && tries > 8 ? (low + high) / 2 : min(max(even, low + 1), high - 1)
    }
    return best
  }
}

/// Prose cut into sentences, repeated when it is too short.
public struct Prose: Sendable {
  /// The text as it came.
  public let text: String
  let sentences: [Substring]

  /// A sentence is cut when it grows longer than this.
  private static let longestSentence = 400

  /// Cuts a text behind full stops, question and exclamation marks, and at the latest after 400
  /// characters.
  public init(_ text: String) {
    self.text = text
    var sentences: [Substring] = []
    var start = text.startIndex
    var length = 0
    var last: Character = " "
    for index in text.indices {
      let character = text[index]
      if character.isWhitespace, ".?!".contains(last) || length > Self.longestSentence {
        sentences.append(text[start..<index])
        start = text.index(after: index)
        length = 0
      } else if length > 2 * Self.longestSentence {
        sentences.append(text[start..<index])
        start = index
        length = 0
      }
      length += 1
      last = character
    }
    if start < text.endIndex { sentences.append(text[start...]) }
    self.sentences = sentences.isEmpty ? ["."] : sentences
  }

  /// The first `count` sentences with each needle put before the sentence of its index, joined by
  /// spaces; line ends become spaces.
  func text(sentences count: Int, needles: [(place: Int, text: String)]) -> String {
    var result = ""
    var next = needles.sorted { $0.place < $1.place }[...]
    for index in 0..<count {
      while let needle = next.first, needle.place <= index {
        result += needle.text + " "
        next.removeFirst()
      }
      for character in sentences[index % sentences.count] {
        result.append(character.isNewline ? " " : character)
      }
      result += " "
    }
    for needle in next { result += needle.text + " " }
    return result
  }
}

/// The chat template around a context and its questions.
public struct PromptFrame: Sendable {
  /// Before the user's text.
  public let opening: [ChatTemplate.Piece]
  /// Behind it, up to where the assistant speaks.
  public let closing: [ChatTemplate.Piece]
  /// From the end of an answer to the next turn's text; nil where the template has no second turn.
  public let reopening: [ChatTemplate.Piece]?
  private let tokenizer: any Tokenizer

  /// The frame of a template; without one, prompts are plain text.
  public init(_ template: ChatTemplate?, tokenizer: any Tokenizer) {
    self.tokenizer = tokenizer
    opening = template?.frame.opening ?? []
    closing = template?.frame.closing ?? []
    reopening = template.map(\.frame.reopening) ?? [.text("\n\n")]
  }

  /// Tokens of a turn, with the template around it and the longest answer.
  func tokenCount(of question: EvaluationContext.Question) -> Int {
    // What is quoted is no longer than the answer, in the question and in the beginning of the next answer.
    let marks = [question.text, question.answerPrefix].count {
      $0.contains(EvaluationContext.Question.answerBefore)
    }
    return tokenCount(question.text) + tokenCount(question.answerPrefix)
      + (1 + marks) * question.maximumTokens + overhead
  }

  func tokenCount(_ text: String) -> Int { tokenizer.encode(text, special: .text).count }

  /// Tokens of the template, and the begin token.
  var overhead: Int {
    1
      + (opening + closing).reduce(0) { sum, piece in
        switch piece {
        case .control: sum + 1
        case .text(let text): sum + tokenCount(text)
        }
      }
  }
}
