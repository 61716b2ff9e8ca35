// SPDX-License-Identifier: Apache-2.0

/// Words that must be changed, put in or left out to make the reference of the answer, over the words of the
/// reference.
func wordErrorRate(of answer: String, to reference: String) -> Double {
  let words = answer.split(whereSeparator: \.isWhitespace)
  let wanted = reference.split(whereSeparator: \.isWhitespace)
  guard !wanted.isEmpty else { return words.isEmpty ? 0 : .infinity }
  var distances = Array(0...wanted.count)
  for (row, word) in words.enumerated() {
    var diagonal = distances[0]
    distances[0] = row + 1
    for (column, other) in wanted.enumerated() {
      let changed = diagonal + (word == other ? 0 : 1)
      diagonal = distances[column + 1]
      distances[column + 1] = min(changed, diagonal + 1, distances[column] + 1)
    }
  }
  return Double(distances[wanted.count]) / Double(wanted.count)
}
