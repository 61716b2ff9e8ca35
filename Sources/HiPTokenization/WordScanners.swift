// SPDX-License-Identifier: Apache-2.0

/// What the pre-tokenizer's patterns tell apart.
enum ScalarClass: UInt8 {
  case letter, number, newline, space, other, end

  /// Letters are the general category L, numbers N, spaces the property White_Space.
  static func of(_ scalar: Unicode.Scalar) -> ScalarClass {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
      .letter
    case .decimalNumber, .letterNumber, .otherNumber:
      .number
    default:
      scalar.properties.isWhitespace ? .space : .other
    }
  }

  static let ascii: [ScalarClass] = (0..<128).map { (code: UInt8) in
    code == 10 || code == 13 ? .newline : of(Unicode.Scalar(code))
  }
}

/// Characters of a text in UTF-8 by their class.
struct ScalarReader {
  let text: [UInt8]
  private let ascii = ScalarClass.ascii

  init(_ text: [UInt8]) { self.text = text }

  /// The class of the character at a byte, and where the next one starts.
  func look(_ index: Int) -> (kind: ScalarClass, next: Int) {
    guard index < text.count else { return (.end, index) }
    let first = text[index]
    if first < 0x80 { return (ascii[Int(first)], index + 1) }
    let length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
    let end = min(index + length, text.count)
    var value = UInt32(first) & (0xff >> UInt32(length + 1))
    for byte in text[(index + 1)..<end] { value = value << 6 | UInt32(byte & 0x3f) }
    return (Unicode.Scalar(value).map(ScalarClass.of) ?? .other, end)
  }

  /// The end of the longest run of characters for which `matches` holds.
  func run(from start: Int, _ matches: (ScalarClass) -> Bool) -> Int {
    var index = start
    while true {
      let (kind, next) = look(index)
      guard kind != .end, matches(kind) else { return index }
      index = next
    }
  }

  /// The end of a contraction that begins at an apostrophe; `folds` ignores case.
  func contraction(_ start: Int, folds: Bool) -> Int? {
    guard text[start] == 0x27, start + 1 < text.count else { return nil }
    func letter(_ index: Int) -> UInt8 { folds ? text[index] | 0x20 : text[index] }
    if [0x73, 0x74, 0x6d, 0x64].contains(letter(start + 1)) { return start + 2 }
    guard start + 2 < text.count else { return nil }
    let pair = (letter(start + 1), letter(start + 2))
    let matches = pair == (0x72, 0x65) || pair == (0x76, 0x65) || pair == (0x6c, 0x6c)
    return matches ? start + 3 : nil
  }
}

/// Finds by hand what the pattern
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` finds by backtracking.
struct GPT2Scanner {
  private let scalars: ScalarReader
  /// Every digit is cut out before the pattern is applied to what lies between.
  private let splitsDigits: Bool

  init(_ scalars: ScalarReader, splitsDigits: Bool) {
    self.scalars = scalars
    self.splitsDigits = splitsDigits
  }

  func end(of start: Int) -> Int {
    if let end = scalars.contraction(start, folds: false) { return end }
    let (kind, second) = scalars.look(start)
    switch kind {
    case .number where splitsDigits: return second
    case .letter, .number, .other: return scalars.run(from: start) { $0 == kind }
    case .space, .newline:
      let (following, _) = scalars.look(second)
      let isCut = splitsDigits && following == .number
      if scalars.text[start] == 0x20, !isCut,
        following == .letter || following == .number || following == .other
      {
        return scalars.run(from: second) { $0 == following }
      }
      return whiteSpace(start)
    case .end: return start
    }
  }

  private func whiteSpace(_ start: Int) -> Int {
    var (end, last) = (start, start)
    while true {
      let (kind, next) = scalars.look(end)
      guard kind == .space || kind == .newline else {
        // The last space belongs to the word behind it, if there is one.
        let isAtEnd = kind == .end || (splitsDigits && kind == .number)
        return isAtEnd || last == start ? end : last
      }
      (last, end) = (end, next)
    }
  }
}

/// Finds by hand what the pattern
/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|`
/// `\s*[\r\n]+|\s+(?!\S)|\s+` finds by backtracking.
struct LlamaScanner {
  private let scalars: ScalarReader
  /// Digits that a word has at most.
  private let digits: Int
  private var text: [UInt8] { scalars.text }

  init(_ scalars: ScalarReader, digits: Int) {
    self.scalars = scalars
    self.digits = digits
  }

  private func look(_ index: Int) -> (kind: ScalarClass, next: Int) { scalars.look(index) }

  private func run(from start: Int, _ matches: (ScalarClass) -> Bool) -> Int {
    scalars.run(from: start, matches)
  }

  func end(of start: Int) -> Int {
    if let end = scalars.contraction(start, folds: true) { return end }
    let (kind, second) = look(start)
    let (following, _) = look(second)
    switch kind {
    case .letter:
      return run(from: start) { $0 == .letter }
    case .number:
      var end = start
      for _ in 0..<digits {
        let (kind, next) = look(end)
        guard kind == .number else { break }
        end = next
      }
      return end
    case .space, .other:
      if following == .letter { return run(from: second) { $0 == .letter } }
      if kind == .other { return punctuation(start) }
      if text[start] == 0x20, following == .other { return punctuation(second) }
      return whiteSpace(start)
    case .newline:
      return whiteSpace(start)
    case .end:
      return start
    }
  }

  private func punctuation(_ start: Int) -> Int {
    let end = run(from: start) { $0 == .other }
    return run(from: end) { $0 == .newline }
  }

  private func whiteSpace(_ start: Int) -> Int {
    var end = start
    var lastNewline: Int?
    var lastStart = start
    while true {
      let (kind, next) = look(end)
      guard kind == .space || kind == .newline else { break }
      if kind == .newline { lastNewline = next }
      lastStart = end
      end = next
    }
    if let lastNewline { return lastNewline }
    // The last space belongs to the word behind it, if there is one.
    return end == text.count || lastStart == start ? end : lastStart
  }
}
