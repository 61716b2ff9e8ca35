// SPDX-License-Identifier: Apache-2.0

/// A set of characters as patterns write it.
struct ScalarSet: Sendable, Hashable {
  /// Bits of general categories.
  private var categories: UInt32 = 0
  private var ranges: [ClosedRange<UInt32>] = []
  private var isInverted = false
  /// Sets that a character must be in, too.
  private var alsoIn: [ScalarSet] = []
  /// Sets whose characters are in this one.
  private var unions: [ScalarSet] = []
  /// Bits of the ASCII characters that it holds, once they are known.
  private var ascii: (low: UInt64, high: UInt64)?

  static func == (a: ScalarSet, b: ScalarSet) -> Bool {
    a.categories == b.categories && a.ranges == b.ranges && a.isInverted == b.isInverted
      && a.alsoIn == b.alsoIn && a.unions == b.unions
  }

  func hash(into hasher: inout Hasher) {
    hasher.combine(categories)
    hasher.combine(ranges)
  }

  /// The same, with the ASCII characters looked up beforehand.
  var compiled: ScalarSet {
    var bits: (low: UInt64, high: UInt64) = (0, 0)
    for value in UInt32(0)..<128 where contains(value) {
      if value < 64 { bits.low |= 1 << value } else { bits.high |= 1 << (value - 64) }
    }
    var set = self
    set.ascii = bits
    return set
  }

  static func range(_ range: ClosedRange<UInt32>) -> ScalarSet {
    var set = ScalarSet()
    set.ranges = [range]
    return set
  }

  static let whiteSpace: ScalarSet = {
    var set = ScalarSet()
    set.ranges = [
      0x9...0xd, 0x20...0x20, 0x85...0x85, 0xa0...0xa0, 0x1680...0x1680, 0x2000...0x200a,
      0x2028...0x2029, 0x202f...0x202f, 0x205f...0x205f, 0x3000...0x3000,
    ]
    return set
  }()

  static let any: ScalarSet = ScalarSet.range(0...0x10_ffff)

  /// The characters of `\\p{name}`; nil for a name that is not known.
  static func property(_ name: some StringProtocol) -> ScalarSet? {
    if name == "Han" || name == "Script=Han" {
      var set = ScalarSet()
      set.ranges = [
        0x2e80...0x2e99, 0x2e9b...0x2ef3, 0x2f00...0x2fd5, 0x3005...0x3005, 0x3007...0x3007,
        0x3021...0x3029, 0x3038...0x303b, 0x3400...0x4dbf, 0x4e00...0x9fff, 0xf900...0xfa6d,
        0xfa70...0xfad9, 0x16fe2...0x16fe3, 0x16ff0...0x16ff1, 0x20000...0x2a6df,
        0x2a700...0x2ebe0, 0x2f800...0x2fa1d, 0x30000...0x323af,
      ]
      return set
    }
    let matching = Category.allCases.filter { $0.rawValue.hasPrefix(name) }
    guard !matching.isEmpty, (1...2).contains(name.count) else { return nil }
    var set = ScalarSet()
    for category in matching { set.categories |= 1 << category.index }
    return set
  }

  var inverted: ScalarSet {
    var set = self
    set.ascii = nil
    set.isInverted.toggle()
    return set
  }

  /// The one character that it is made of; nil where it is made otherwise.
  var single: UInt32? {
    guard let range = ranges.first, ranges.count == 1, range.count == 1, categories == 0,
      unions.isEmpty, alsoIn.isEmpty, !isInverted
    else { return nil }
    return range.lowerBound
  }

  /// Whether it is made of ranges and categories alone.
  private var isFlat: Bool { !isInverted && alsoIn.isEmpty && unions.isEmpty }

  func union(_ other: ScalarSet) -> ScalarSet {
    if isFlat, other.isFlat {
      var set = self
      set.ascii = nil
      set.categories |= other.categories
      set.ranges += other.ranges
      return set
    }
    var set = ScalarSet()
    set.unions = [self, other]
    return set
  }

  func intersection(_ other: ScalarSet) -> ScalarSet {
    var set = self
    set.ascii = nil
    set.alsoIn.append(other)
    return set
  }

  /// The same with both cases of each ASCII letter that it holds one of.
  var ignoringCase: ScalarSet {
    var set = self
    for letter in UInt32(0x61)...0x7a {
      let other = letter - 0x20
      if contains(letter) || contains(other) {
        set = set.union(.range(letter...letter)).union(.range(other...other))
      }
    }
    return set
  }

  private func contains(_ value: UInt32) -> Bool {
    Unicode.Scalar(value).map { contains(Character($0)) } ?? false
  }

  /// A character with its category, which is looked up once.
  struct Character: Sendable {
    let value: UInt32
    let category: UInt32

    init(_ scalar: Unicode.Scalar) {
      value = scalar.value
      category = 1 << Category(scalar.properties.generalCategory).index
    }

    /// A byte that is no character.
    init(invalid byte: UInt8) {
      value = 0xfffd
      category = 1 << Category.otherSymbol.index
    }
  }

  func contains(_ character: Character) -> Bool {
    if let ascii, character.value < 128 {
      return
        (character.value < 64 ? ascii.low >> character.value : ascii.high >> (character.value - 64))
        & 1 == 1
    }
    let isIn =
      categories & character.category != 0 || ranges.contains { $0.contains(character.value) }
      || unions.contains { $0.contains(character) }
    return isIn != isInverted && alsoIn.allSatisfy { $0.contains(character) }
  }
}

/// General categories by their names in patterns.
private enum Category: String, CaseIterable {
  case uppercaseLetter = "Lu"
  case lowercaseLetter = "Ll"
  case titlecaseLetter = "Lt"
  case modifierLetter = "Lm"
  case otherLetter = "Lo"
  case nonspacingMark = "Mn"
  case spacingMark = "Mc"
  case enclosingMark = "Me"
  case decimalNumber = "Nd"
  case letterNumber = "Nl"
  case otherNumber = "No"
  case connectorPunctuation = "Pc"
  case dashPunctuation = "Pd"
  case openPunctuation = "Ps"
  case closePunctuation = "Pe"
  case initialPunctuation = "Pi"
  case finalPunctuation = "Pf"
  case otherPunctuation = "Po"
  case mathSymbol = "Sm"
  case currencySymbol = "Sc"
  case modifierSymbol = "Sk"
  case otherSymbol = "So"
  case spaceSeparator = "Zs"
  case lineSeparator = "Zl"
  case paragraphSeparator = "Zp"
  case control = "Cc"
  case format = "Cf"
  case surrogate = "Cs"
  case privateUse = "Co"
  case unassigned = "Cn"

  private static let indices = Dictionary(
    uniqueKeysWithValues: allCases.enumerated().map { ($0.element, UInt32($0.offset)) })

  var index: UInt32 { Self.indices[self] ?? 0 }

  init(_ category: Unicode.GeneralCategory) {
    self =
      switch category {
      case .uppercaseLetter: .uppercaseLetter
      case .lowercaseLetter: .lowercaseLetter
      case .titlecaseLetter: .titlecaseLetter
      case .modifierLetter: .modifierLetter
      case .otherLetter: .otherLetter
      case .nonspacingMark: .nonspacingMark
      case .spacingMark: .spacingMark
      case .enclosingMark: .enclosingMark
      case .decimalNumber: .decimalNumber
      case .letterNumber: .letterNumber
      case .otherNumber: .otherNumber
      case .connectorPunctuation: .connectorPunctuation
      case .dashPunctuation: .dashPunctuation
      case .openPunctuation: .openPunctuation
      case .closePunctuation: .closePunctuation
      case .initialPunctuation: .initialPunctuation
      case .finalPunctuation: .finalPunctuation
      case .otherPunctuation: .otherPunctuation
      case .mathSymbol: .mathSymbol
      case .currencySymbol: .currencySymbol
      case .modifierSymbol: .modifierSymbol
      case .otherSymbol: .otherSymbol
      case .spaceSeparator: .spaceSeparator
      case .lineSeparator: .lineSeparator
      case .paragraphSeparator: .paragraphSeparator
      case .control: .control
      case .format: .format
      case .surrogate: .surrogate
      case .privateUse: .privateUse
      case .unassigned: .unassigned
      @unknown default: .unassigned
      }
  }
}
