// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
public import HiPCompute
public import HiPModels
public import HiPTensors

extension SequenceCache {
  /// Stores `count` more tokens of random keys and values in all layers, through the same calls as those of a
  /// prompt: for measuring at depths whose prefill would take hours.
  ///
  /// A pattern of `period` tokens repeats itself, at other places in every block where that is an odd number.
  public func appendRandom(
    _ count: Int, seed: UInt64, period: Int = 1009, on backend: any AttentionBackend
  ) throws(ComputeError) {
    let format = store.format
    let width = format.shape.kvHeads * format.shape.headSize
    let period = min(count, period)
    guard period > 0 else { return }
    try reserve(count)
    let keys = try backend.makeRandomTensor(rows: period, columns: width, seed: seed &+ 1)
    let values = try backend.makeRandomTensor(rows: period, columns: width, seed: seed &+ 2)
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

extension AttentionBackend {
  /// A matrix of about normal numbers with variance 1.
  public func makeRandomTensor(
    rows: Int, columns: Int, element: ElementType = .float32, seed: UInt64
  ) throws(ComputeError) -> DeviceTensor {
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    func uniform() -> Float {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(state >> 40) / Float(1 << 24) - 0.5
    }
    let values = (0..<rows * columns).map { _ in (uniform() + uniform() + uniform()) * 2 }
    return try makeTensor(.values(values), element: element, rows: rows, columns: columns)
  }
}
