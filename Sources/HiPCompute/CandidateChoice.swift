// SPDX-License-Identifier: Apache-2.0

extension CandidateRequest {
  /// Whether logits are changed before candidates are chosen among them.
  package var adjusts: Bool { penalty != 1 || !bias.isEmpty || filter != nil }

  /// Changes a row of logits: penalty, bias and filter, which is waited for.
  @unsafe package func adjust(_ row: UnsafeMutableBufferPointer<Float>) {
    if penalty != 1 {
      for token in Set(repeated) {
        let value = unsafe row[Int(token)]
        unsafe row[Int(token)] = value > 0 ? value / penalty : value * penalty
      }
    }
    for (token, amount) in bias { unsafe row[Int(token)] += amount }
    if let filter { unsafe exclude(all: row, but: filter.words) }
  }

  /// The candidates of a row that has been adjusted and holds no logit that is not finite.
  /// - Parameters:
  ///   - row: its logits.
  ///   - greatest: the greatest of them.
  ///   - total: the logarithm of the sum of their exponentials.
  @unsafe package func choose(
    from row: UnsafeBufferPointer<Float>, greatest: Float, logSumExp total: Double
  ) -> Candidates {
    guard !isWhole else {
      let ids = row.indices.filter { unsafe row[$0] > excluded }
      return Candidates(
        ids: ids.map(Int32.init), logits: ids.map { unsafe row[$0] }, logSumExp: total)
    }
    var most = count > 0 ? min(count, row.count) : row.count
    if share > 0 {
      let least = Double(greatest) + log(share)
      most = unsafe min(most, row.count { Double($0) >= least })
    }
    func probability(_ ids: some Sequence<Int>) -> Double {
      ids.reduce(0) { unsafe $0 + exp(Double(row[$1]) - total) }
    }
    var ids: [Int]
    if most == 1 {
      var best = 0
      for index in row.indices where unsafe row[index] > row[best] { best = index }
      ids = [best]
    } else {
      // Few hold most of the probability: all are sorted only where as many are needed.
      var count = mass < 1 ? min(most, 128) : most
      ids = unsafe indicesOfLargest(count, of: row)
      while count < most, probability(ids) < mass {
        count = min(most, 4 * count)
        ids = unsafe indicesOfLargest(count, of: row)
      }
      ids.sort { unsafe row[$0] != row[$1] ? row[$0] > row[$1] : $0 < $1 }
    }
    if filter != nil { ids.removeAll { unsafe row[$0] <= excluded } }
    return Candidates(
      ids: ids.map(Int32.init), logits: ids.map { unsafe row[$0] }, logSumExp: total)
  }
}

/// The logit of a token that may not be sampled: finite, and its exponential is 0.
private let excluded: Float = -1e30

private func exclude(all row: UnsafeMutableBufferPointer<Float>, but allowed: [UInt64]) {
  for index in row.indices {
    let word = index / 64 < allowed.count ? allowed[index / 64] : 0
    // What is not finite stays, and is found.
    if word >> UInt64(index % 64) & 1 == 0, unsafe row[index].isFinite {
      unsafe row[index] = excluded
    }
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif
