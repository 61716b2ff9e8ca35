// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
public import HiPCompute
public import HiPModels
internal import HiPTensors

extension SequenceCache {
  /// Stores `count` more tokens of random keys and values in all layers, through the same calls as those of a
  /// prompt: for measuring at depths whose prefill would take hours.
  ///
  /// A pattern of 1,009 tokens repeats itself, at other places in every block.
  public func appendRandom(
    _ count: Int, seed: UInt64, on backend: any ComputeBackend
  ) throws(ComputeError) {
    let format = store.format
    let width = format.shape.kvHeads * format.shape.headSize
    let period = min(count, 1009)
    guard period > 0 else { return }
    try reserve(count)
    func tensor(_ salt: UInt64) throws(ComputeError) -> DeviceTensor {
      var state = (seed &+ salt) &* 0x9e37_79b9_7f4a_7c15 | 1
      func uniform() -> Float {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Float(state >> 40) / Float(1 << 24) - 0.5
      }
      // About normal, with variance 1.
      let values = (0..<period * width).map { _ in (uniform() + uniform() + uniform()) * 2 }
      return try backend.makeTensor(
        .values(values), element: .float32, rows: period, columns: width)
    }
    let (keys, values) = (try tensor(1), try tensor(2))
    for layer in 0..<format.layerCount {
      for start in stride(from: 0, to: count, by: period) {
        let rows = 0..<min(period, count - start)
        backend.append(
          AppendCall(
            layer: layer, projections: (nil, keys.rows(rows), values.rows(rows)), order: .halves,
            rotaryDimensions: format.shape.headSize,
            batch: [SequenceRows(rows: rows, start: length + start, table: table)]))
      }
    }
    _ = try backend.submit()
    advance([Int32](repeating: 0, count: count))
  }
}
