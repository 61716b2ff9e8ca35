// SPDX-License-Identifier: Apache-2.0

/// A kind of question with known answers, at any length.
public enum EvaluationTask: Sendable, Hashable {
  /// Facts at even depths of one text, each asked for on its own.
  case needle
  /// One value of a JSON object of UUIDs (InfiniteBench `kv_retrieval`).
  case keyValue
  /// Five digits in repeated sentences (InfiniteBench `passkey`).
  case passkey
  /// One of the RULER tasks that need no download.
  case ruler(RulerTask)
  /// RULER's `niah_single_1` and `vt` in one text.
  case sharedNoise
  /// Keys among keys, with as many of each as is wanted (RULER v2).
  case keys(KeyHaystack)
  /// One of several answers to the same request (MRCR).
  case requests(RepeatedRequests)
  /// Counts over labelled lines (OOLONG).
  case labels
  /// Nodes that a walk over an edge list comes to (GraphWalks).
  case graph(GraphWalk)
  /// A chain of facts, each found through the answer before, asked for one by one.
  case hops
  /// Facts all over one text, asked for in one conversation.
  case turns
  /// A question before the text, in it, or behind it.
  case placed(PlacedQuestion)

  /// The name in reports.
  public var name: String {
    switch self {
    case .needle: "needle"
    case .keyValue: "kv"
    case .passkey: "passkey"
    case .ruler(let task): task.rawValue
    case .sharedNoise: "shared_noise"
    case .keys(let haystack): haystack.name
    case .requests(let requests): requests.name
    case .labels: "oolong"
    case .graph(let walk): walk.rawValue
    case .hops: "hops"
    case .turns: "turns"
    case .placed(let question): question.name
    }
  }

  /// The context of that number, with its questions.
  /// - Throws: when they do not fit in the length.
  public func context(_ index: Int, _ request: ContextRequest) throws -> EvaluationContext {
    var words = Words(seed: request.seed &* 1_000_003 &+ UInt64(index))
    return switch self {
    case .needle: try NeedleTask.context(request, seed: request.seed)
    case .keyValue: try KeyValueTask.context(request, &words)
    case .passkey: try PasskeyTask.context(request, &words, index: index)
    case .ruler(let task): try task.context(request, &words)
    case .sharedNoise: try SharedNoise.context(request, &words)
    case .keys(let haystack): try haystack.context(request, &words)
    case .requests(let requests): try requests.context(request, &words)
    case .labels: try LabelledLines.context(request, &words)
    case .graph(let walk): try walk.context(request, &words)
    case .hops: try HopTask.context(request, &words)
    case .turns: try TurnTask.context(request, &words)
    case .placed(let question): try question.context(request, &words)
    }
  }

  /// The most questions that share one context, where a task allows it.
  static let questionsPerContext = 4
}

/// A text that is read once, and the questions that go on from it.
public struct EvaluationContext: Sendable {
  /// What is read first, in the user's turn; ends with a line end.
  public let text: String
  /// What is asked; each on its own unless it follows the one before.
  public var questions: [Question]

  /// The questions that are asked one behind the other, each behind the answer to the one before.
  var conversations: [Range<Int>] {
    let starts = questions.indices.filter { $0 == 0 || !questions[$0].follows }
    return zip(starts, starts.dropFirst() + [questions.count]).map { $0..<$1 }
  }

  /// A question about the text.
  public struct Question: Sendable {
    /// The rest of the user's turn; `answerBefore` stands for what was answered to the question before.
    public let text: String
    /// How the answer begins; the model goes on from there.
    public let answerPrefix: String
    /// What the answer is judged by.
    public let references: [String]
    /// How it is judged.
    public let scoring: Scoring
    /// The most tokens to generate.
    public let maximumTokens: Int
    /// Where in the text the answer stands, from 0 to 1; nil where it stands in several places.
    public var depth: Double?
    /// The task that it is counted with, where a text serves several; nil: the text's.
    public var kind: EvaluationTask?
    /// Whether it is asked behind the answer to the question before, in the same conversation.
    public var follows = false

    /// Stands in a question for the answer to the one before: a character of the private use area.
    static let answerBefore = "\u{e0b0}"

    /// A text of the question, which quotes the answer to the one before: its first clause without what stands around letters
    /// and digits.
    static func quoting(_ answer: String, in text: String) -> String {
      guard text.contains(answerBefore) else { return text }
      func isWord(_ character: Character) -> Bool { character.isLetter || character.isNumber }
      let words = answer.drop { !isWord($0) }.prefix { !"\n.,;:!?".contains($0) }.prefix(80)
      guard let end = words.lastIndex(where: isWord) else {
        return text.replacing(answerBefore, with: "it")
      }
      return text.replacing(answerBefore, with: words[...end])
    }

    /// Whether this is what was asked, whatever it quoted.
    func isAsked(in prompt: String) -> Bool {
      let parts = text.split(separator: Self.answerBefore, omittingEmptySubsequences: false)
      guard let first = parts.first, let last = parts.last, parts.count > 1 else {
        return prompt == text
      }
      return prompt.hasPrefix(first) && prompt.hasSuffix(last)
    }
  }
}
