// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Attention as the specification says it: scalar, in double precision, one row at a time.
///
/// Every fast form is judged against this. It is slow on purpose.
public struct ReferenceAttention {
  let shape: AttentionShape
  let rotary: RotaryEmbedding?
  /// Tokens that the model was trained on at a time.
  let trainedLength: Int
  /// `[queries, heads, headSize]`, not rotated, multiplied by the softmax scale.
  let queries: [Double]
  /// `[keys, kvHeads, headSize]`, not rotated.
  let keys: [Double]
  let values: [Double]
  /// One logit per head that takes part in the softmax without a value; empty for none.
  let sinks: [Double]

  /// Takes queries that stand at the last positions of the keys.
  /// - Parameters:
  ///   - queries: `[queries, heads, headSize]`, not rotated, not scaled.
  ///   - keys: `[keys, kvHeads, headSize]`, not rotated.
  ///   - values: `[keys, kvHeads, headSize]`.
  ///   - rotary: nil when nothing is to be rotated.
  ///   - sinks: a logit per head that takes part in the softmax without a value; empty for none.
  ///   - trainedLength: what stretching and position schemes that depend on it go by.
  public init(
    queries: [Float], keys: [Float], values: [Float], shape: AttentionShape,
    rotary: RotaryEmbedding?, sinks: [Float] = [], trainedLength: Int = .max
  ) {
    precondition(sinks.isEmpty || sinks.count == shape.heads)
    self.sinks = sinks.map(Double.init)
    self.trainedLength = trainedLength
    self.shape = shape
    self.rotary = rotary
    self.queries = queries.map { Double($0) * Double(shape.scale) }
    self.keys = keys.map(Double.init)
    self.values = values.map(Double.init)
  }

  var keyCount: Int { keys.count / (shape.kvHeads * shape.headSize) }
  var queryCount: Int { queries.count / (shape.heads * shape.headSize) }
  /// Position of the first query.
  var firstPosition: Int { keyCount - queryCount }

  /// Positions of some of the queries.
  func positions(_ rows: Range<Int>) -> Range<Int> {
    firstPosition + rows.lowerBound..<firstPosition + rows.upperBound
  }

  /// The output `[queries, heads, headSize]`; with `selection`, attends to those blocks instead of
  /// selecting.
  public func run(_ policy: AttentionPolicy, selection: BlockSelection? = nil) -> [Double] {
    if case .heavyHitters(let hitters) = policy { return runEvicting(hitters) }
    var output: [Double] = []
    output.reserveCapacity(queries.count)
    let selected: BlockSelection? =
      if case .hierarchical(let pruning) = policy {
        selection ?? ReferenceSelection(self).run(pruning)
      } else { nil }
    for row in 0..<queryCount {
      for head in 0..<shape.heads {
        switch policy {
        case .dense, .heavyHitters:
          output += attend(row: row, head: head, to: denseKeys(row)).output
        case .stretched(let stretch):
          let stretched = rotary?.stretched(
            stretch, position: firstPosition + row, trainedLength: trainedLength)
          output += attend(row: row, head: head, to: denseKeys(row), rotary: stretched).output
        case .streaming(let reach):
          output += attend(row: row, head: head, to: streamingKeys(row, reach)).output
        case .hierarchical(let pruning):
          let block = row / pruning.queryBlock
          let starts = selected?.blocks[head][block] ?? []
          output +=
            attend(row: row, head: head, to: selectedKeys(row, starts.map(Int.init), pruning))
            .output
        }
      }
    }
    return output
  }

  /// A key that a row attends to, and how far before the query it appears to stand.
  struct Reached {
    let key: Int
    let distance: Int
    /// What a quarter of it appears to stand at, under the dynamic scheme.
    var quarter: Int?
  }

  private func denseKeys(_ row: Int) -> [Reached] {
    let position = firstPosition + row
    return (0...position).map { Reached(key: $0, distance: position - $0) }
  }

  private func streamingKeys(_ row: Int, _ reach: StreamingWindow) -> [Reached] {
    let position = firstPosition + row
    // The cache holds sinks and window side by side; the query stands at its end.
    let last = min(position, reach.sink + reach.window - 1)
    var reached: [Reached] = []
    for key in 0..<reach.sink where key + reach.window <= position {
      reached.append(Reached(key: key, distance: last - key))
    }
    for key in max(0, position - reach.window + 1)...position {
      reached.append(Reached(key: key, distance: position - key))
    }
    return reached
  }

  private func selectedKeys(
    _ row: Int, _ starts: [Int], _ pruning: HierarchicalPruning
  ) -> [Reached] {
    let position = firstPosition + row
    let first = row / pruning.queryBlock * pruning.queryBlock
    let block = positions(first..<min(first + pruning.queryBlock, queryCount))
    let size = pruning.blockSize
    let border = block.lowerBound - pruning.window
    let scheme = pruning.attentionPositions
    let spread = pruning.spreadPositions(
      blocks: starts, queriesFrom: block.lowerBound, trainedLength: trainedLength)
    var reached: [Reached] = []
    func reach(_ key: Int, rank: Int, blockIndex: Int) {
      guard key + pruning.window <= position, key < keyCount else { return }
      let streamed = max(0, rank + border - (pruning.sink + starts.count * size) + 1)
      let place =
        switch scheme {
        case .streaming: streamed
        case .infllm: max(0, border)
        case .relative: max(0, border - 1)
        case .chunkIndexed: max(0, border - starts.count + 1 + blockIndex)
        case .spread:
          blockIndex < 0 ? spread[0] + rank : spread[blockIndex + 1] + (rank - pruning.sink) % size
        case .absolute, .selfExtend, .dynamic:
          scheme.position(ofKey: key, queries: block, trainedLength: trainedLength)
        }
      let isBlended = scheme == .dynamic
      reached.append(
        Reached(
          key: key, distance: position - (isBlended ? streamed : place),
          quarter: isBlended ? position - place : nil))
    }
    for key in 0..<min(pruning.sink, keyCount) { reach(key, rank: key, blockIndex: -1) }
    for (rank, key) in starts.flatMap({ $0..<$0 + size }).enumerated() where key >= pruning.sink {
      reach(key, rank: pruning.sink + rank, blockIndex: rank / size)
    }
    for key in max(0, position - pruning.window + 1)...position {
      reached.append(Reached(key: key, distance: position - key))
    }
    return reached
  }

  /// One row's output, and the weight of each key.
  func attend(
    row: Int, head: Int, to reached: [Reached], rotary other: RotaryEmbedding? = nil
  ) -> (output: [Double], weights: [Double]) {
    let kvHead = head / shape.groupSize
    let query = self.query(row, head)
    var scores = reached.map { item in
      let key = key(item.key, kvHead)
      let score = dot(rotated(query, by: item.distance, other), key)
      guard let quarter = item.quarter else { return score }
      return 0.75 * score + 0.25 * dot(rotated(query, by: quarter, other), key)
    }
    if let cap = shape.softCap.map(Double.init) { scores = scores.map { cap * tanh($0 / cap) } }
    let sink = sinks.isEmpty ? nil : sinks[head]
    let maximum = max(scores.max() ?? 0, sink ?? -.infinity)
    var sum = sink.map { exp($0 - maximum) } ?? 0
    for index in scores.indices {
      scores[index] = exp(scores[index] - maximum)
      sum += scores[index]
    }
    var output = [Double](repeating: 0, count: shape.headSize)
    for (index, item) in reached.enumerated() {
      scores[index] /= sum
      let start = (item.key * shape.kvHeads + kvHead) * shape.headSize
      for element in 0..<shape.headSize {
        output[element] += scores[index] * values[start + element]
      }
    }
    return (output, scores)
  }

  func query(_ row: Int, _ head: Int) -> ArraySlice<Double> {
    let start = (row * shape.heads + head) * shape.headSize
    return queries[start..<start + shape.headSize]
  }

  func key(_ position: Int, _ kvHead: Int) -> ArraySlice<Double> {
    let start = (position * shape.kvHeads + kvHead) * shape.headSize
    return keys[start..<start + shape.headSize]
  }

  /// A query rotated by `position`, with the amplitude that it and what it is multiplied with have; unchanged when
  /// there is no rotary embedding.
  func rotated(
    _ query: ArraySlice<Double>, by position: Int, _ other: RotaryEmbedding? = nil
  ) -> ArraySlice<Double> {
    guard let rotary = other ?? rotary else { return query }
    return turned(query, by: position, rotary, amplitude: rotary.amplitude * rotary.amplitude)
  }

  /// A key rotated by `position`; its query has the amplitude of both.
  func rotated(key: ArraySlice<Double>, by position: Int) -> ArraySlice<Double> {
    guard let rotary else { return key }
    return turned(key, by: position, rotary, amplitude: 1)
  }

  private func turned(
    _ vector: ArraySlice<Double>, by position: Int, _ rotary: RotaryEmbedding, amplitude: Double
  ) -> ArraySlice<Double> {
    let half = rotary.frequencies.count
    let row = rotary.row(position: position).map { $0 * amplitude }
    var result = Array(vector)
    for pair in 0..<half {
      let low = vector[vector.startIndex + pair]
      let high = vector[vector.startIndex + half + pair]
      result[pair] = low * row[pair] - high * row[half + pair]
      result[half + pair] = high * row[pair] + low * row[half + pair]
    }
    return result[...]
  }
}

func dot(_ a: ArraySlice<Double>, _ b: ArraySlice<Double>) -> Double {
  var sum = 0.0
  for (x, y) in zip(a, b) { sum += x * y }
  return sum
}
