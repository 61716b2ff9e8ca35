// SPDX-License-Identifier: Apache-2.0

/// How an answer is judged, from 0 to 1.
public enum Scoring: Sendable, Hashable {
  /// The share of the references that occur in the answer, whatever the case (RULER's
  /// `string_match_all`).
  case containsAll
  /// The mean over references of 1 where one occurs in the answer, and else of what its word error rate leaves of 1
  /// (RULER v2).
  case wordErrors
  /// The reference is one of the answer's words (InfiniteBench `kv_retrieval`, and needles).
  case word
  /// The first run of digits is the reference (InfiniteBench `passkey`).
  case firstNumber
  /// 0.75 to the power of how far the first number is from the reference (OOLONG's counts).
  case nearNumber
  /// The answer begins with the reference (OOLONG's labels and comparisons).
  case beginning
  /// The likeness of the answer behind the prefix to the reference; 0 without the prefix (MRCR).
  case sequence(prefix: String)
  /// F1 of the set of names in the list that the answer goes on with (GraphWalks).
  case nameSet

  /// The score of an answer.
  public func score(_ answer: String, _ references: [String]) -> Double {
    if case .nameSet = self { return Self.overlap(Self.names(in: answer), Set(references)) }
    guard !references.isEmpty else { return 0 }
    switch self {
    case .containsAll:
      let text = answer.lowercased()
      let found = references.count { text.contains($0.lowercased()) }
      return Double(found) / Double(references.count)
    case .wordErrors:
      let text = answer.lowercased()
      let scores = references.map { reference in
        let reference = reference.lowercased()
        return text.contains(reference) ? 1 : max(0, 1 - wordErrorRate(of: text, to: reference))
      }
      return scores.reduce(0, +) / Double(scores.count)
    case .word:
      let words = answer.split { "\n:\"'.,?!{} ".contains($0) }
      return references.contains { words.contains(Substring($0)) } ? 1 : 0
    case .firstNumber:
      return references.contains { $0 == Self.firstNumber(in: answer) } ? 1 : 0
    case .nearNumber:
      // "1,234" is one number.
      guard let number = Int(Self.firstNumber(in: answer.replacing(",", with: ""))),
        let wanted = Int(references[0]),
        abs(number) < 1 << 40
      else { return 0 }
      return (0..<min(abs(number - wanted), 200)).reduce(1.0) { power, _ in power * 0.75 }
    case .beginning:
      let text = answer.lowercased().drop { !$0.isLetter && !$0.isNumber }
      return text.hasPrefix(references[0].lowercased()) ? 1 : 0
    case .sequence(let prefix):
      guard answer.hasPrefix(prefix) else { return 0 }
      return sequenceRatio(String(answer.dropFirst(prefix.count)), references[0])
    case .nameSet: return 0
    }
  }

  private static func firstNumber(in answer: String) -> Substring {
    answer.drop { !$0.isWholeNumber }.prefix { $0.isWholeNumber }
  }

  /// The names of a list in brackets, whose opening bracket may stand before the answer.
  private static func names(in answer: String) -> Set<String> {
    let list = answer.prefix { $0 != "]" && $0 != "\n" }.split(separator: "[").last ?? ""
    return Set(
      list.split(separator: ",").map { name in
        String(name.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
      }.filter { !$0.isEmpty })
  }

  /// F1 of two sets; 1 where both are empty.
  private static func overlap(_ found: Set<String>, _ wanted: Set<String>) -> Double {
    guard !found.isEmpty || !wanted.isEmpty else { return 1 }
    let both = Double(found.intersection(wanted).count)
    return 2 * both / Double(found.count + wanted.count)
  }
}
