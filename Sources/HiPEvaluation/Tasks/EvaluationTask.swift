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

  /// The name in reports.
  public var name: String {
    switch self {
    case .needle: "needle"
    case .keyValue: "kv"
    case .passkey: "passkey"
    case .ruler(let task): task.rawValue
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
    }
  }

  /// The most questions that share one context, where a task allows it.
  static let questionsPerContext = 4
}

/// A text that is read once, and the questions that go on from it.
public struct EvaluationContext: Sendable {
  /// What is read first, in the user's turn; ends with a line end.
  public let text: String
  /// What is asked, each on its own.
  public var questions: [Question]

  /// A question about the text.
  public struct Question: Sendable {
    /// The rest of the user's turn.
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
  }
}

/// How an answer is judged, from 0 to 1.
public enum Scoring: Sendable, Hashable {
  /// The share of the references that occur in the answer, whatever the case (RULER's
  /// `string_match_all`).
  case containsAll
  /// The reference is one of the answer's words (InfiniteBench `kv_retrieval`, and needles).
  case word
  /// The first run of digits is the reference (InfiniteBench `passkey`).
  case firstNumber

  /// The score of an answer.
  public func score(_ answer: String, _ references: [String]) -> Double {
    guard !references.isEmpty else { return 0 }
    switch self {
    case .containsAll:
      let text = answer.lowercased()
      let found = references.count { text.contains($0.lowercased()) }
      return Double(found) / Double(references.count)
    case .word:
      let words = answer.split { "\n:\"'.,?!{} ".contains($0) }
      return references.contains { words.contains(Substring($0)) } ? 1 : 0
    case .firstNumber:
      let number = answer.drop { !$0.isWholeNumber }.prefix { $0.isWholeNumber }
      return references.contains { $0 == number } ? 1 : 0
    }
  }
}
