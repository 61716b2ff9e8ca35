// SPDX-License-Identifier: Apache-2.0

extension ReferenceAttention {
  /// Attention under H2O: all keys before the first query are there at the start, with no mass.
  func runEvicting(_ hitters: HeavyHitters) -> [Double] {
    var kept = [[HeavyHitters.KeptKey]](
      repeating: (0..<firstPosition).map { HeavyHitters.KeptKey(key: Int32($0), mass: 0) },
      count: shape.kvHeads)
    var output = [Double](repeating: 0, count: queries.count)
    for first in stride(from: 0, to: queryCount, by: HeavyHitters.queryBlock) {
      let rows = first..<min(first + HeavyHitters.queryBlock, queryCount)
      let block = positions(rows)
      for kvHead in 0..<shape.kvHeads {
        let old = kept[kvHead]
        let all = old + block.map { HeavyHitters.KeptKey(key: Int32($0), mass: 0) }
        var masses = [Double](repeating: 0, count: all.count)
        for head in kvHead * shape.groupSize..<(kvHead + 1) * shape.groupSize {
          for row in rows {
            let position = firstPosition + row
            let reached = all.prefix(old.count + row - first + 1).enumerated().map { rank, item in
              Reached(key: Int(item.key), distance: position - block.lowerBound + old.count - rank)
            }
            let (values, weights) = attend(row: row, head: head, to: reached)
            let start = (row * shape.heads + head) * shape.headSize
            output.replaceSubrange(start..<start + shape.headSize, with: values)
            for (rank, weight) in weights.enumerated() { masses[rank] += weight }
          }
        }
        let weighed = zip(all, masses).map { item, mass in
          HeavyHitters.KeptKey(key: item.key, mass: item.mass + Float(mass))
        }
        kept[kvHead] = hitters.evict(weighed, end: block.upperBound)
      }
    }
    return output
  }
}
