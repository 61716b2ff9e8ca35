// SPDX-License-Identifier: Apache-2.0

package import HiPAttention
package import HiPCompute
package import HiPModels
internal import InfiniteHiP

/// How long a prefill will take, from short ones behind random keys at a few depths.
///
/// Between the depths, and behind the last one, a token's time is taken to grow evenly.
package struct PrefillForecast {
  /// Seconds per token at each depth, the depths ascending.
  private let paces: [(depth: Int, seconds: Double)]

  /// Depths that are measured where they fit.
  private static let depths = [0, 4 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10]

  /// Measures a model as far as a text of `length` tokens goes; `memory` bytes may be taken for random keys.
  package init(
    _ model: DecoderModel, _ choice: AttentionChoice, _ format: KVFormat, length: Int, memory: Int
  ) throws {
    let clock = ContinuousClock()
    let attention = LayerAttention(choice, trainedLength: model.architecture.trainedLength)
    let unit = attention.prefillUnit
    let depths = Self.depths.filter {
      ($0 == 0 || $0 < length) && format.byteCount(forTokens: $0 + 2 * unit) <= memory / 2
    }
    // What lies behind the last depth follows from the difference between two: each is the best of three, since
    // the machine's other work would count many times over.
    let isLonger = length > depths.last ?? 0
    paces = try depths.enumerated().map { index, depth in
      let runner = ModelRunner(model, capacity: memory)
      let bench = try SequenceBench(runner, attention, format, depth: depth, count: 1)
      try bench.prefill(64)
      let times = try (0..<(isLonger && index >= depths.count - 2 ? 3 : 1)).map { _ in
        try clock.measure { try bench.prefill(unit) } / .seconds(1)
      }
      return (depth, (times.min() ?? 0) / Double(unit))
    }
  }

  /// Seconds that `tokens` tokens take.
  /// - Returns: nil where no depth fits into memory.
  package func seconds(of tokens: Int) -> Double? {
    guard let first = paces.first else { return nil }
    var (sum, start, pace) = (0.0, 0, first.seconds)
    // Trapezoids from depth to depth.
    for next in paces.dropFirst() where start < tokens {
      let end = min(next.depth, tokens)
      let share = Double(end - start) / Double(max(1, next.depth - start))
      let endPace = pace + (next.seconds - pace) * share
      sum += Double(end - start) * (pace + endPace) / 2
      (start, pace) = (end, endPace)
    }
    guard start < tokens, let last = paces.last else { return sum }
    let before = paces.dropLast().last ?? last
    let slope =
      last.depth > before.depth
      ? max(0, last.seconds - before.seconds) / Double(last.depth - before.depth) : 0
    let length = Double(tokens - start)
    return sum + length * (pace + slope * length / 2)
  }
}
