// SPDX-License-Identifier: Apache-2.0

internal import InfiniteHiP

/// Random words, none twice as long as its list lasts.
struct Words {
  var generator: SeededGenerator
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

  /// `adjective-noun`, the keys and word values of RULER.
  mutating func pair() -> String { "\(pick(Self.adjectives))-\(pick(Self.nouns))" }

  /// A random UUID of version 4.
  mutating func uuid() -> String {
    let digits = Array("0123456789abcdef")
    var text = ""
    for place in 0..<32 {
      if [8, 12, 16, 20].contains(place) { text += "-" }
      let digit = Int.random(in: 0..<16, using: &generator)
      text.append(digits[place == 12 ? 4 : place == 16 ? 8 + digit % 4 : digit])
    }
    return text
  }

  /// Random letters.
  mutating func letters(_ alphabet: ClosedRange<UInt8>, count: Int) -> String {
    String(
      decoding: (0..<count).map { _ in UInt8.random(in: alphabet, using: &generator) },
      as: UTF8.self)
  }

  static let adjectives = words(
    """
    able agile alert amber ample ardent arid austere azure balmy bitter bland bleak blunt bold brisk \
    bright calm candid chilly civil clever cloudy coarse copper cosmic crisp curious damp daring \
    dapper deep dense eager earnest easy elder faint famous fancy fertile fine firm fluffy fond frank \
    fresh frosty gallant glad gleaming graceful grand grave green handy hardy hasty hearty honest \
    hushed ideal idle ivory keen kind large late lavish lean level light lively lofty loyal lucid \
    lunar \
    lonely hollow elegant mellow fierce giant pink quiet golden silver ancient broken crimson dusty \
    gentle hidden humble icy jolly narrow purple rusty shiny silent sleepy tiny wooden yellow brave
    """)
  static let nouns = words(
    """
    acorn almond anvil apron arrow atlas badge barrel beacon bell bench berry bishop blanket boat \
    bridge brook broom bucket button cabin camel canoe canyon carpet castle cedar chain chapel cherry \
    chimney circle clock cloud coin comet copper cottage cradle crane crown curtain daisy desert \
    diamond drum eagle easel ember fabric feather ferry fiddle flag flute forest fountain fox gate \
    glacier glove goose grape guitar harp harvest hawk hedge helmet heron hill horse hotel iron ivy \
    turtle cactus temple bottle anchor basket candle dragon engine falcon garden hammer island \
    jacket kettle lantern mirror needle orchard pepper rabbit saddle ticket violin walnut window
    """)
  static let places = words(
    """
    cellar church library garden tower kitchen attic stable chapel mill barn castle bakery harbour
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
