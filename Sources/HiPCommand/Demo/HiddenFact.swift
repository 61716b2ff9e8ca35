// SPDX-License-Identifier: Apache-2.0

import InfiniteHiP

/// A sentence to hide in a novel, the question about it, and the words that an answer must hold.
struct HiddenFact {
  let sentence: String
  let question: String
  let answer: String

  /// Whether a reply tells the fact.
  func isTold(by reply: String) -> Bool { reply.contains(answer) }

  /// Facts in the forms that the demo model was trained to read, all about different things.
  static func make(_ count: Int, seed: UInt64) -> [HiddenFact] {
    var words = Words(seed: seed)
    let kinds = [magicNumber, home, code, hidingPlace, profession, color]
    return (0..<count).map { kinds[$0 % kinds.count](&words) }
  }

  private static func magicNumber(_ words: inout Words) -> HiddenFact {
    let thing = words.unique { "\($0.pick(Words.adjectives))-\($0.pick(Words.nouns))" }
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
    let place = words.unique { "\($0.pick(Words.adjectives)) \($0.pick(Words.places))" }
    let number = words.number(digits: 7)
    return HiddenFact(
      sentence: "To enter the \(place), type the code \(number).",
      question: "Which code opens the \(place)?", answer: number)
  }

  private static func hidingPlace(_ words: inout Words) -> HiddenFact {
    let thing = words.unique { "\($0.pick(Words.adjectives)) \($0.pick(Words.objects))" }
    let place = words.unique { "\($0.pick(Words.adjectives)) \($0.pick(Words.places))" }
    return HiddenFact(
      sentence: "The \(thing) is hidden in the \(place).", question: "Where is the \(thing)?",
      answer: place)
  }

  private static func profession(_ words: inout Words) -> HiddenFact {
    let person = words.person()
    let profession = words.pick(Words.professions)
    return HiddenFact(
      sentence: "\(person) works as a \(profession).",
      question: "What is the profession of \(person)?", answer: profession)
  }

  private static func color(_ words: inout Words) -> HiddenFact {
    let person = words.person()
    let color = words.pick(Words.colors)
    return HiddenFact(
      sentence: "The favorite color of \(person) is \(color).",
      question: "Which color does \(person) like best?", answer: color)
  }
}

/// Random words, none of the unique ones twice.
private struct Words {
  private var generator: SeededGenerator
  private var used: Set<String> = []

  init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

  mutating func pick(_ list: [String]) -> String {
    list.randomElement(using: &generator) ?? ""
  }

  mutating func unique(_ make: (inout Words) -> String) -> String {
    // After many tries the lists are used up: a number tells the rest apart.
    for _ in 0..<1000 {
      let word = make(&self)
      if used.insert(word).inserted { return word }
    }
    used.insert("\(used.count)")
    return make(&self) + " \(used.count)"
  }

  mutating func person() -> String {
    unique { "\($0.pick(Words.firstNames)) \($0.pick(Words.lastNames))" }
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
  static let objects = words(
    """
    dagger crown ring lantern key book mirror coin violin necklace compass hammer letter clock
    """)
  static let cities = words(
    """
    Amsterdam Denver Paris London Berlin Madrid Vienna Lisbon Dublin Boston Chicago Oslo Prague \
    Geneva Athens Cairo
    """)
  static let professions = words(
    """
    teacher baker doctor lawyer painter farmer sailor carpenter gardener nurse tailor pilot
    """)
  static let colors = words("green blue red yellow purple orange pink black white brown")
  static let firstNames = words(
    """
    Clara Nina Thomas Wanda Dora Diana Oscar Peter Laura Simon Julia Martin Emma Walter Alice \
    Henry Rosa Victor Helen Frank
    """)
  static let lastNames = words(
    """
    Kendall Yates Sutton Turner Chandler Barton Hughes Fisher Mason Palmer Reed Shaw Webster \
    Harding Carver Dalton Ellis Foster Granger Holt
    """)

  private static func words(_ text: String) -> [String] {
    text.split(whereSeparator: \.isWhitespace).map(String.init)
  }
}
