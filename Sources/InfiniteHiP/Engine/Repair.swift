// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPModels

extension ModelRunner {
  /// Computes segments of a sequence anew whose keys and values are not what was stored.
  ///
  /// What stands behind them was computed from what they were, and stays.
  /// - Returns: whether there were any.
  func repair(_ id: SequenceID, _ attention: LayerAttention) throws(ComputeError) -> Bool {
    guard let tier else { return false }
    var broken = Set(tier.takeBroken(id))
    let isBroken = !broken.isEmpty
    var attempts = broken.count + cache(id).length / DecoderModel.largestPrefill
    while let number = broken.min() {
      do throws(ComputeError) {
        try compute(number, of: id, attention)
        tier.replaceBroken(number, of: id)
        broken.remove(number)
      } catch {
        // One before it is damaged, too: that one comes first.
        let more = tier.takeBroken(id)
        attempts -= 1
        guard error.code == .damaged, attempts > 0, !more.isEmpty else { throw error }
        broken.formUnion(more)
      }
    }
    return isBroken
  }

  /// Computes a segment of a sequence in blocks of its own, and puts those in the place of the old ones.
  private func compute(
    _ number: Int, of id: SequenceID, _ attention: LayerAttention
  ) throws(ComputeError) {
    let cache = cache(id)
    let blockSize = cache.store.format.blockSize
    let size = max(1, DecoderModel.largestPrefill / blockSize) * blockSize
    let end = min((number + 1) * size, cache.length)
    let places = number * size / blockSize..<(end + blockSize - 1) / blockSize
    prefixes.forget(Set(cache.filledBlocks[places]))
    let copy = fork(id)
    defer { close(copy) }
    self.cache(copy).truncate(to: number * size)
    try reserve(end - number * size, for: copy)
    for start in stride(from: number * size, to: end, by: DecoderModel.largestPrefill) {
      let slice = SequenceSlice(
        sequence: copy,
        tokens: Array(cache.tokens[start..<min(start + DecoderModel.largestPrefill, end)]),
        start: start, length: cache.length, kind: .prefill, attention: attention)
      if let failure = try run(StepPlan([slice]))[0].failure { throw failure }
    }
    cache.replace(places, from: self.cache(copy))
  }
}
