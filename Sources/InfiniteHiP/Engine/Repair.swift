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
    let cache = cache(id)
    let blockSize = cache.store.format.blockSize
    let size = max(1, DecoderModel.largestPrefill / blockSize) * blockSize
    let broken = tier.takeBroken(id)
    for number in broken {
      let tokens = cache.tokens[number * size..<min((number + 1) * size, cache.length)]
      let places = number * size / blockSize..<(tokens.endIndex + blockSize - 1) / blockSize
      prefixes.forget(Set(cache.filledBlocks[places]))
      let copy = fork(id)
      defer { close(copy) }
      self.cache(copy).truncate(to: tokens.startIndex)
      try reserve(tokens.count, for: copy)
      let slice = SequenceSlice(
        sequence: copy, tokens: Array(tokens), start: tokens.startIndex, length: cache.length,
        kind: .prefill, attention: attention)
      if let failure = try run(StepPlan([slice]))[0].failure { throw failure }
      cache.replace(places, from: self.cache(copy))
      tier.replaceBroken(number, of: id)
    }
    return !broken.isEmpty
  }
}
