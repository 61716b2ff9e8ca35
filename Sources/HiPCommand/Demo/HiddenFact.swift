// SPDX-License-Identifier: Apache-2.0

import InfiniteHiP

/// A sentence to hide in a novel, the question about it, and the word that an answer must hold.
struct HiddenFact {
  let sentence: String
  let question: String
  let answer: String

  /// Whether a reply tells the fact.
  func isTold(by reply: String) -> Bool {
    reply.split { !$0.isLetter && !$0.isNumber }.contains { $0 == answer }
  }

  /// Facts in forms that the demo model reads reliably at its trained length, all about different
  /// things.
  static func make(_ count: Int, seed: UInt64) -> [HiddenFact] {
    var words = Words(seed: seed)
    let kinds = [magicNumber, home, code, fondness]
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

  private static func fondness(_ words: inout Words) -> HiddenFact {
    let person = words.person()
    let subject = words.pick(Words.subjects)
    return HiddenFact(
      sentence: "\(person) is very fond of \(subject).", question: "What does \(person) love?",
      answer: subject)
  }
}

/// Random words, none twice as long as its list lasts.
private struct Words {
  private var generator: SeededGenerator
  private var left: [[String]: [String]] = [:]
  private var names: Set<String> = []

  init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

  mutating func pick(_ list: [String]) -> String {
    var rest = left[list] ?? []
    if rest.isEmpty { rest = list.shuffled(using: &generator) }
    let word = rest.popLast() ?? ""
    left[list] = rest
    return word
  }

  /// A name that nobody else has, as long as there are some left.
  mutating func person() -> String {
    var name = ""
    for _ in 0..<100 {
      name = "\(pick(Self.firstNames)) \(pick(Self.lastNames))"
      if names.insert(name).inserted { break }
    }
    return name
  }

  mutating func number(digits: Int) -> String {
    let lowest = (1..<digits).reduce(1) { product, _ in product * 10 }
    return String(Int.random(in: lowest..<lowest * 10, using: &generator))
  }

  static let adjectives = words(
    """
    lonely hollow elegant mellow fierce giant pink quiet golden silver ancient broken crimson dusty \
    gentle hidden humble icy jolly narrow purple rusty shiny silent sleepy tiny wooden yellow brave
    """)
  static let nouns = words(
    """
    turtle cactus temple bottle anchor basket candle dragon engine falcon garden hammer island \
    jacket kettle lantern mirror needle orchard pepper rabbit saddle ticket violin walnut window
    """)
  static let places = words(
    """
    cellar church library garden tower kitchen attic stable chapel mill barn castle bakery harbour
    """)
  static let subjects = words(
    """
    geometry music chess poetry history painting dancing gardening sailing astronomy
    """)
  static let cities = words(
    """
    Amsterdam Denver Paris London Berlin Madrid Vienna Lisbon Dublin Boston Chicago Oslo Prague \
    Geneva Athens Cairo
    """)
  static let firstNames = words(
    """
    Clara Nina Thomas Wanda Dora Diana Oscar Peter Laura Simon Julia Martin Emma Walter Alice \
    Henry Rosa Victor Helen
    """)
  static let lastNames = words(
    """
    Kendall Yates Sutton Turner Chandler Barton Fisher Palmer Webster Harding Carver Dalton Ellis \
    Granger
    """)

  private static func words(_ text: String) -> [String] {
    text.split(whereSeparator: \.isWhitespace).map(String.init)
  }
}
