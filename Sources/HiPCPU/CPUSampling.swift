// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
public import HiPCompute

extension CPUBackend {
  /// Candidates, rows or log-likelihoods, on several threads where there are several rows.
  public func sample(_ call: SampleCall) {
    if call.scale != 1 || call.softCap != nil {
      pool.run(call.logits.rows) { row, _ in
        let logits = call.logits.floats(row: row)
        // A cap would hide what is not finite.
        guard table.is_finite(logits, call.logits.columns) == 1 else { return }
        for column in 0..<call.logits.columns { logits[column] *= call.scale }
        if let cap = call.softCap { table.soft_cap(logits, call.logits.columns, cap) }
      }
    }
    for item in call.items {
      switch item.request {
      case .logits:
        let rows = call.logits.rows(item.rows)
        output.results.append(
          .logits(
            Array(UnsafeBufferPointer(start: rows.floats, count: rows.rows * rows.columns))))
      case .candidates(let request):
        let found = eachRow(of: call.logits, item.rows) { row, _ in
          candidates(row, request)
        }
        output.results.append(found.map { .candidates($0) } ?? .notFinite)
      case .negativeLogLikelihoods(let targets):
        precondition(targets.count == item.rows.count)
        let values = eachRow(of: call.logits, item.rows) { row, index in
          logSumExp(row).map { $0 - Double(row[Int(targets[index])]) }
        }
        output.results.append(values.map { .negativeLogLikelihoods($0) } ?? .notFinite)
      }
    }
  }

  /// The results of all rows; nil when one of them has none.
  private func eachRow<Result>(
    of logits: DeviceTensor, _ rows: Range<Int>,
    _ body: (UnsafeMutableBufferPointer<Float>, Int) -> Result?
  ) -> [Result]? {
    var results = [Result?](repeating: nil, count: rows.count)
    results.withUnsafeMutableBufferPointer { results in
      // Each item writes its own element.
      nonisolated(unsafe) let results = results
      pool.run(rows.count) { index, _ in
        let start = logits.floats(row: rows.lowerBound + index)
        results[index] = body(
          UnsafeMutableBufferPointer(start: start, count: logits.columns), index)
      }
    }
    let found = results.compactMap { $0 }
    return found.count == rows.count ? found : nil
  }

  /// Logarithm of the sum of the exponentials; nil when a logit is not finite.
  private func logSumExp(_ row: UnsafeMutableBufferPointer<Float>) -> Double? {
    guard let start = row.baseAddress else { return nil }
    let greatest = table.greatest(start, row.count)
    guard greatest.isFinite else { return nil }
    var sum = 0.0
    // Parts whose sums single precision holds, added up in double.
    for first in stride(from: 0, to: row.count, by: 1024) {
      sum += Double(table.exponential_sum(start + first, min(1024, row.count - first), greatest))
    }
    return Double(greatest) + log(sum)
  }

  private func candidates(
    _ row: UnsafeMutableBufferPointer<Float>, _ request: CandidateRequest
  ) -> Candidates? {
    if request.penalty != 1 {
      for token in Set(request.repeated) {
        let value = row[Int(token)]
        row[Int(token)] = value > 0 ? value / request.penalty : value * request.penalty
      }
    }
    for (token, amount) in request.bias { row[Int(token)] += amount }
    if let filter = request.filter { exclude(all: row, but: filter.words) }
    guard let total = logSumExp(row) else { return nil }
    guard !request.isWhole else {
      let ids = row.indices.filter { row[$0] > excluded }
      return Candidates(
        ids: ids.map(Int32.init), logits: ids.map { row[$0] }, logSumExp: total)
    }
    var most = request.count > 0 ? min(request.count, row.count) : row.count
    if request.share > 0, let start = row.baseAddress {
      let least = Double(table.greatest(start, row.count)) + log(request.share)
      most = min(most, row.count { Double($0) >= least })
    }
    func share(_ ids: some Sequence<Int>) -> Double {
      ids.reduce(0) { $0 + exp(Double(row[$1]) - total) }
    }
    var ids: [Int]
    if most == 1 {
      var best = 0
      for index in row.indices where row[index] > row[best] { best = index }
      ids = [best]
    } else {
      // Few hold most of the probability: all are sorted only where as many are needed.
      var count = request.mass < 1 ? min(most, 128) : most
      ids = indicesOfLargest(count, of: UnsafeBufferPointer(row))
      while count < most, share(ids) < request.mass {
        count = min(most, 4 * count)
        ids = indicesOfLargest(count, of: UnsafeBufferPointer(row))
      }
      ids.sort { row[$0] != row[$1] ? row[$0] > row[$1] : $0 < $1 }
    }
    if request.filter != nil { ids.removeAll { row[$0] <= excluded } }
    return Candidates(ids: ids.map(Int32.init), logits: ids.map { row[$0] }, logSumExp: total)
  }
}

/// The logit of a token that may not be sampled: finite, and its exponential is 0.
private let excluded: Float = -1e30

private func exclude(all row: UnsafeMutableBufferPointer<Float>, but allowed: [UInt64]) {
  for index in row.indices {
    let word = index / 64 < allowed.count ? allowed[index / 64] : 0
    // What is not finite stays, and is found.
    if word >> UInt64(index % 64) & 1 == 0, row[index].isFinite { row[index] = excluded }
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif
