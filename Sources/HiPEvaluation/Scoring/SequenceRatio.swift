// SPDX-License-Identifier: Apache-2.0

/// Twice the characters in matching stretches over all characters, as Python's
/// `difflib.SequenceMatcher(None, text, reference).ratio()` counts them, which MRCR is scored by.
///
/// Of a reference of 200 characters or more, those that make up more than a hundredth of it begin no match, as there.
func sequenceRatio(_ text: String, _ reference: String) -> Double {
  let (first, second) = (Array(text.unicodeScalars), Array(reference.unicodeScalars))
  guard !first.isEmpty || !second.isEmpty else { return 1 }
  var matcher = SequenceMatcher(first, second)
  return 2 * Double(matcher.matchedCount()) / Double(first.count + second.count)
}

private struct SequenceMatcher {
  private let first, second: [Unicode.Scalar]
  /// Where each character of the second text stands that may begin a match.
  private var places: [Unicode.Scalar: [Int]] = [:]
  /// Lengths of the matches that end at each character of the second text, one place up; all 0 between searches.
  private var lengths, nextLengths: [Int]

  init(_ first: [Unicode.Scalar], _ second: [Unicode.Scalar]) {
    self.first = first
    self.second = second
    for (index, scalar) in second.enumerated() { places[scalar, default: []].append(index) }
    if second.count >= 200 {
      let most = second.count / 100 + 1
      places = places.filter { $0.value.count <= most }
    }
    lengths = [Int](repeating: 0, count: second.count + 1)
    nextLengths = lengths
  }

  private struct Match {
    var first, second, count: Int
  }

  /// Characters in the longest match, in the longest ones before and behind it, and so on.
  mutating func matchedCount() -> Int {
    var open = [(0..<first.count, 0..<second.count)]
    var sum = 0
    while let (left, right) = open.popLast() {
      let match = longest(left, right)
      guard match.count > 0 else { continue }
      sum += match.count
      open.append((left.lowerBound..<match.first, right.lowerBound..<match.second))
      open.append(
        (match.first + match.count..<left.upperBound, match.second + match.count..<right.upperBound)
      )
    }
    return sum
  }

  /// The longest match, of those the one that comes first.
  private mutating func longest(_ left: Range<Int>, _ right: Range<Int>) -> Match {
    var best = Match(first: left.lowerBound, second: right.lowerBound, count: 0)
    var touched: [Int] = []
    for index in left {
      var next: [Int] = []
      for place in places[first[index]] ?? [] where right.contains(place) {
        let count = lengths[place] + 1
        nextLengths[place + 1] = count
        next.append(place + 1)
        if count > best.count {
          best = Match(first: index - count + 1, second: place - count + 1, count: count)
        }
      }
      for place in touched { lengths[place] = 0 }
      swap(&lengths, &nextLengths)
      touched = next
    }
    for place in touched { lengths[place] = 0 }
    // What may not begin a match may prolong one.
    while best.first > left.lowerBound, best.second > right.lowerBound,
      first[best.first - 1] == second[best.second - 1]
    {
      best = Match(first: best.first - 1, second: best.second - 1, count: best.count + 1)
    }
    while best.first + best.count < left.upperBound, best.second + best.count < right.upperBound,
      first[best.first + best.count] == second[best.second + best.count]
    {
      best.count += 1
    }
    return best
  }
}
