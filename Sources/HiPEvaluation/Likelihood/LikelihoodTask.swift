// SPDX-License-Identifier: Apache-2.0

/// How likely a model finds what was really written, in nats per token, when it is written token by token.
public enum LikelihoodTask: Sendable, Hashable {
  /// So many tokens with which a text goes on.
  case continuation(tokens: Int)
  /// The first sentence of so many chapters, each given the book up to it: what a summary would have to know.
  case chapters(count: Int)

  /// The name in reports.
  public var name: String {
    switch self {
    case .continuation(let tokens): "continuation_\(tokens)"
    case .chapters: "chapters"
    }
  }
}

/// What was written at one place, and how likely it was; a line of the record file.
public struct LikelihoodRecord: Sendable, Codable {
  /// Name of the task.
  public let task: String
  /// Name of the policy.
  public let policy: String
  /// Tokens of the whole text.
  public let length: Int
  /// What else it depends on: the model and the policy's parts.
  public let conditions: String
  /// Hash of the text.
  public let text: String
  /// The place's number.
  public let place: Int
  /// Position of the first token that was written.
  public let position: Int
  /// How it begins.
  public let written: String
  /// Negative log-likelihood of each token, in nats.
  public let nll: [Double]
  /// Time to read what comes before, since the place before.
  public let readSeconds: Double
  /// Time to write it.
  public let writeSeconds: Double
}

/// Places of a text where something is written.
struct WrittenPlaces {
  /// A place: positions of what is written.
  struct Place {
    let number: Int
    let written: Range<Int>
  }

  /// The text; places of one text are read in one go.
  let tokens: [Int32]
  let places: [Place]
}
