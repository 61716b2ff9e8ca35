// SPDX-License-Identifier: Apache-2.0

/// A sentence to hide in a novel, the question about it, and the word that an answer must hold.
public struct HiddenFact: Sendable {
  /// What is hidden.
  public let sentence: String
  /// What is asked.
  public let question: String
  /// The word that a reply must hold.
  public let answer: String

  /// Whether a reply tells the fact.
  public func isTold(by reply: String) -> Bool {
    reply.split { !$0.isLetter && !$0.isNumber }.contains { $0 == answer }
  }

  /// Facts in forms that the demo model reads reliably at its trained length, all about different
  /// things.
  public static func make(_ count: Int, seed: UInt64) -> [HiddenFact] {
    var words = Words(seed: seed)
    let kinds = [magicNumber, home, code]
    return (0..<count).map { kinds[$0 % kinds.count](&words) }
  }

  private static func magicNumber(_ words: inout Words) -> HiddenFact {
    let thing = "\(words.pick(Words.adjectives))-\(words.pick(Words.nouns))"
    let number = words.number(digits: 7)
    return HiddenFact(
      sentence: "One of the special magic numbers for \(thing) is: \(number).",
      question: "What is the special magic number for \(thing) mentioned in the provided text?",
      answer: number)
  }

  private static func home(_ words: inout Words) -> HiddenFact {
    let person = words.person()
    let city = words.pick(Words.cities)
    return HiddenFact(
      sentence: "The home of \(person) is in \(city).", question: "Where does \(person) live?",
      answer: city)
  }

  private static func code(_ words: inout Words) -> HiddenFact {
    let place = "\(words.pick(Words.adjectives)) \(words.pick(Words.places))"
    let number = words.number(digits: 7)
    return HiddenFact(
      sentence: "To enter the \(place), type the code \(number).",
      question: "Which code opens the \(place)?", answer: number)
  }
}
