// SPDX-License-Identifier: Apache-2.0

/// The RULER tasks that need no download: 11 of 13 (github.com/NVIDIA/RULER, July 2026).
///
/// Templates, answer prefixes, scoring and lengths are RULER's; words, and the prose that stands for
/// its essays, are ours, so numbers are "RULER-like". Where a haystack holds several keys, up to four
/// questions share it.
public enum RulerTask: String, Sendable, Hashable, CaseIterable {
  case niahSingle1 = "niah_single_1"
  case niahSingle2 = "niah_single_2"
  case niahSingle3 = "niah_single_3"
  case niahMultikey1 = "niah_multikey_1"
  case niahMultikey2 = "niah_multikey_2"
  case niahMultikey3 = "niah_multikey_3"
  case niahMultivalue = "niah_multivalue"
  case niahMultiquery = "niah_multiquery"
  case variableTracking = "vt"
  case commonWords = "cwe"
  case frequentWords = "fwe"

  func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    switch self {
    case .variableTracking: try VariableTracking.context(request, &words)
    case .commonWords: try CommonWords.context(request, &words)
    case .frequentWords: try FrequentWords.context(request, &words)
    default: try NeedleInAHaystack(self).context(request, &words)
    }
  }

  static let noise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
}

/// The eight needle tasks of RULER.
struct NeedleInAHaystack {
  enum Filler { case noise, prose, needles }
  enum Content { case words, numbers, uuids }

  let filler: Filler
  let key: Content
  let value: Content
  let keys: Int
  let values: Int
  let queries: Int

  init(_ task: RulerTask) {
    filler =
      switch task {
      case .niahSingle1: .noise
      case .niahMultikey2, .niahMultikey3: .needles
      default: .prose
      }
    key = task == .niahMultikey3 ? .uuids : .words
    value = task == .niahSingle3 || task == .niahMultikey3 ? .uuids : .numbers
    keys =
      switch task {
      case .niahMultikey1, .niahMultiquery: 4
      default: 1
      }
    values = task == .niahMultivalue ? 4 : 1
    queries = task == .niahMultiquery ? 4 : 1
  }

  private func make(_ content: Content, _ words: inout Words) -> String {
    switch content {
    case .words: words.pair()
    case .numbers: words.number(digits: 7)
    case .uuids: words.uuid()
    }
  }

  private var plural: String {
    switch value {
    case .words: "words"
    case .numbers: "numbers"
    case .uuids: "uuids"
    }
  }

  private struct Entry {
    let key: String
    let values: [String]
  }

  private func needles(_ entry: Entry) -> [String] {
    entry.values.map { Self.needle(plural, for: entry.key, is: $0) }
  }

  static func needle(_ plural: String, for key: String, is value: String) -> String {
    "One of the special magic \(plural) for \(key) is: \(value)."
  }

  func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    // Among needles any line can be asked for.
    let asked = filler == .needles ? EvaluationTask.questionsPerContext : keys
    var used: Set<String> = []
    /// A key that no other line has; pairs of words get a number when they run out.
    func unused(_ words: inout Words, _ used: inout Set<String>) -> String {
      var text = make(key, &words)
      while !used.insert(text).inserted { text = make(key, &words) + "-" + words.number(digits: 4) }
      return text
    }
    let entries = (0..<asked).map { _ in
      Entry(
        key: unused(&words, &used), values: (0..<values).map { _ in make(value, &words) })
    }
    let hidden = entries.flatMap(needles)
    let depths = (0..<hidden.count).map { _ in Double.random(in: 0...1, using: &words.generator) }
    let start = words
    func build(_ count: Int) -> EvaluationContext {
      var words = start
      var used = used
      let text: String
      switch filler {
      case .prose:
        text = request.prose.text(
          sentences: count,
          needles: zip(hidden, depths).map { (place: Int($1 * Double(count)), text: $0) })
      case .noise, .needles:
        var lines = (0..<count).map { _ in
          filler == .noise
            ? RulerTask.noise
            : needles(Entry(key: unused(&words, &used), values: [make(value, &words)]))[0]
        }
        for (needle, depth) in zip(hidden, depths) {
          lines.insert(needle, at: min(lines.count, Int(depth * Double(lines.count + 1))))
        }
        text = lines.joined(separator: "\n")
      }
      return EvaluationContext(
        text: introduction + text + "\n",
        questions: questions(entries, depth: hidden.count == entries.count ? depths : nil))
    }
    return try request.largest(guess: request.length / 8 * (filler == .prose ? 2 : 1), build)
  }

  private var isSingle: Bool { queries * values == 1 }

  private var introduction: String { Self.introduction(plural, isSingle: isSingle) }

  static func introduction(_ plural: String, isSingle: Bool) -> String {
    let type = isSingle ? String(plural.dropLast()) : plural
    return
      "\(isSingle ? "A" : "Some") special magic \(type) \(isSingle ? "is" : "are") hidden within "
      + "the following text. Make sure to memorize it. I will quiz you about the \(type) "
      + "afterwards.\n"
  }

  private func questions(_ entries: [Entry], depth: [Double]?) -> [EvaluationContext.Question] {
    let groups = queries > 1 ? [entries] : entries.map { [$0] }
    return groups.enumerated().map { index, group in
      Self.question(
        group.map(\.key), plural, isSingle: isSingle, references: group.flatMap(\.values),
        depth: groups.count == entries.count ? depth?[index] : nil)
    }
  }

  /// The question for the values of some keys.
  static func question(
    _ names: [String], _ plural: String, isSingle: Bool, references: [String], depth: Double?
  ) -> EvaluationContext.Question {
    let query =
      names.count > 1
      ? names.dropLast().joined(separator: ", ") + ", and " + (names.last ?? "") : names[0]
    let type = isSingle ? String(plural.dropLast()) : plural
    return EvaluationContext.Question(
      text:
        "What \(isSingle ? "is" : "are all") the special magic \(type) for \(query) mentioned in "
        + "the provided text?",
      answerPrefix: " The special magic \(type) for \(query) mentioned in the provided text "
        + (isSingle ? "is" : "are"),
      references: references, scoring: .containsAll, maximumTokens: 128, depth: depth)
  }
}

/// RULER's `cwe`: ten words that occur ten times as often as the others.
enum CommonWords {
  private static func list(_ words: [String]) -> String {
    words.enumerated().map { "\($0 + 1). \($1)" }.joined(separator: " ")
  }

  private static func task(_ words: [String]) -> (context: String, question: String) {
    (
      "Below is a numbered list of words. In these words, some appear more often than others. "
        + "Memorize the ones that appear most often.\n" + list(words) + "\n",
      "Question: What are the 10 most common words in the above list?"
    )
  }

  private static let prefix =
    " Answer: The top 10 words that appear most often in the list are:"

  static func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let isShort = request.length < 4096
    let (often, seldom) = isShort ? (6, 1) : (30, 3)
    // Pronounceable words of our own; every list is shuffled.
    let vowels = ["a", "e", "i", "o", "u"]
    var used: Set<String> = []
    func fresh(_ count: Int) -> [String] {
      var result: [String] = []
      while result.count < count {
        let word = (0..<3).map { _ in
          words.letters(97...122, count: 1) + vowels[Int.random(in: 0..<5, using: &words.generator)]
        }.joined()
        if used.insert(word).inserted { result.append(word) }
      }
      return result
    }
    func repeated(_ common: [String], _ often: Int, _ others: [String], _ seldom: Int) -> [String] {
      let all =
        common.flatMap { Array(repeating: $0, count: often) }
        + others.flatMap { Array(repeating: $0, count: seldom) }
      return all.shuffled(using: &words.generator)
    }
    let exampleCommon = fresh(10)
    let example = task(
      repeated(exampleCommon, isShort ? 3 : 10, fresh(isShort ? 10 : 30), isShort ? 1 : 3))
    let demonstration =
      example.context + example.question + prefix + " " + list(exampleCommon) + "\n\n"
    let common = fresh(10)
    // Enough for any list that could fit: a word takes two tokens or more.
    let others = fresh(min(1_000_000, request.length / (2 * seldom) + 20))
    let start = words
    return try request.largest(guess: others.count / 2, step: 10) { count in
      words = start
      let (context, question) = task(repeated(common, often, Array(others.prefix(count)), seldom))
      return EvaluationContext(
        text: demonstration + context,
        questions: [
          EvaluationContext.Question(
            text: question, answerPrefix: prefix, references: common, scoring: .containsAll,
            maximumTokens: 120)
        ])
    }
  }
}

/// RULER's `fwe`: the three most frequent of coded words whose frequencies fall as the square of
/// their rank.
enum FrequentWords {
  static func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let vocabulary = max(8, (request.length - 50) / 50)
    let coded = (0..<vocabulary).map { _ in words.letters(97...122, count: 6) }
    let start = words
    return try request.largest(guess: request.length, step: max(1, request.length / 64)) { count in
      words = start
      var all: [String] = []
      for (index, word) in coded.enumerated() {
        let rank = Double(index + 1)
        let times = Int(Double(count) / (rank * rank) / 1.644934)
        guard times > 0 else { break }
        all += Array(repeating: index == 0 ? "..." : word, count: times)
      }
      all.shuffle(using: &words.generator)
      return EvaluationContext(
        text: "Read the following coded text and track the frequency of each coded word. Find the "
          + "three most frequently appeared coded words. " + all.joined(separator: " ") + "\n",
        questions: [
          EvaluationContext.Question(
            text:
              "Question: Do not provide any explanation. Please ignore the dots '....'. What are "
              + "the three most frequently appeared words in the above coded text?",
            answerPrefix: " Answer: According to the coded text above, the three most frequently "
              + "appeared words are:",
            references: Array(coded[1..<4]), scoring: .containsAll, maximumTokens: 50)
        ])
    }
  }
}
