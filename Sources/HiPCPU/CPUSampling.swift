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
          logSumExp(row).map { $0.total - Double(row[Int(targets[index])]) }
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

  /// The greatest logit, and the logarithm of the sum of the exponentials; nil when a logit is not finite.
  private func logSumExp(
    _ row: UnsafeMutableBufferPointer<Float>
  ) -> (greatest: Float, total: Double)? {
    guard let start = row.baseAddress else { return nil }
    let greatest = table.greatest(start, row.count)
    guard greatest.isFinite else { return nil }
    var sum = 0.0
    // Parts whose sums single precision holds, added up in double.
    for first in stride(from: 0, to: row.count, by: 1024) {
      sum += Double(table.exponential_sum(start + first, min(1024, row.count - first), greatest))
    }
    return (greatest, Double(greatest) + log(sum))
  }

  private func candidates(
    _ row: UnsafeMutableBufferPointer<Float>, _ request: CandidateRequest
  ) -> Candidates? {
    request.adjust(row)
    return logSumExp(row).map {
      request.choose(
        from: UnsafeBufferPointer(row), greatest: $0.greatest, logSumExp: $0.total)
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
