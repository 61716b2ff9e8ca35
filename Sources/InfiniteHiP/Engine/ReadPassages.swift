// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModels

extension ModelRunner {
  /// Where the answer of a sequence looked for what stands far away, the most first; at most 16 passages.
  ///
  /// Where a policy focuses, the shares are those of the softmax mass that the question drew on.
  /// Where it does not, they are those of the selections of its last token in the second half of the layers.
  func readPassages(_ id: SequenceID, _ state: SequenceState) -> [ReadPassage] {
    guard case .hierarchical(let pruning) = state.attention.policy,
      state.length > state.attention.denseLength
    else { return [] }
    let probed = state.focus.drawn
    guard probed.isEmpty else { return Array(probed.prefix(16)) }
    guard pruning.focus == nil else { return [] }
    return Array(selectedPassages(id, pruning).prefix(16))
  }

  private func selectedPassages(_ id: SequenceID, _ pruning: HierarchicalPruning) -> [ReadPassage] {
    let size = 64
    let architecture = model.architecture
    let count = architecture.layerCount
    var counts: [Int: Int] = [:]
    for layer in count / 2..<count where !pruning.isDense(layer: layer, of: count) {
      guard case .full = architecture.layers[layer].reach else { continue }
      let selection = cache(id).selection.download(
        layer: layer, shape: architecture.attention,
        pruning: pruning.applied(toLayer: layer, of: count))
      for head in selection.blocks {
        for start in head.last ?? [] { counts[Int(start) / size, default: 0] += 1 }
      }
    }
    let total = Float(counts.values.reduce(0, +))
    return counts.sorted { $0.value != $1.value ? $0.value > $1.value : $0.key < $1.key }
      .map { passage, count in
        ReadPassage(
          tokens: passage * size..<(passage + 1) * size, share: Float(count) / max(1, total))
      }
  }
}
