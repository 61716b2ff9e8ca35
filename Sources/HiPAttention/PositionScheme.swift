// SPDX-License-Identifier: Apache-2.0

/// Where queries and keys appear to stand, while chunks are scored or in the attention over what was
/// selected (arXiv 2502.08910, section 3.3 and appendix D).
///
/// In the attention, keys of the window and queries keep their true positions, and the scheme places
/// sinks and selected keys. Without rotary embedding none of them does anything.
public enum PositionScheme: String, Sendable, Hashable, CaseIterable {
  /// Pruning: query at the pruning window + 1, keys of a left half at 0, of a right half at 1.
  /// Attention: all at one distance, the window + 1.
  case relative
  /// Pruning: query at most one past the number of chunks plus the window, keys at their chunk's
  /// index. Attention: the keys of a block at its index, the last block directly before the window.
  case chunkIndexed = "chunk-indexed"
  /// All at one distance: the pruning window, or the window.
  case infllm
  /// True positions nearby, groups of 16 far away (arXiv 2401.01325).
  case selfExtend = "self-extend"
  /// True positions nearby, what is further away squeezed into the trained length. In the attention,
  /// a quarter of that turn and three quarters of that of `streaming`.
  case dynamic
  /// Pruning: as `chunkIndexed`. Attention: one key after the other, up to directly before the window
  /// (StreamingLLM).
  case streaming
  /// Attention: sinks and blocks in their order, spread over what the model knows beside the window in
  /// proportion to where they stand; keys of a block stay side by side. Within the trained length these
  /// are the true positions.
  case spread
  /// Everything at its true position.
  case absolute

  /// Whether a key's own position is squeezed by what the model was trained on.
  public var needsTrainedLength: Bool { self == .selfExtend || self == .dynamic }

  /// Position of a key under `selfExtend` or `dynamic`, for queries at `queries`; its own under any
  /// other scheme.
  public func position(ofKey key: Int, queries: Range<Int>, trainedLength: Int) -> Int {
    let (first, last) = (queries.lowerBound, queries.upperBound - 1)
    guard needsTrainedLength, last > trainedLength else { return key }
    if self == .selfExtend {
      // 8,192 neighbours for a model of 128K, 16 keys to a position beyond them.
      guard key < last - trainedLength / 16 else { return key }
      return max(0, first - (first - key + 15) / 16)
    }
    let near = trainedLength / 4
    let border = first - near
    guard key < last - near, border > 0 else { return key }
    let squeezed = border - ((border - key) * (trainedLength - near) + border - 1) / border
    return max(squeezed, last - trainedLength)
  }

  /// Positions of the first keys of runs that are spread: what stands at `starts`, ascending, is squeezed into
  /// the `room` positions before `border`, but no two runs of `sizes` keys overlap.
  ///
  /// What reaches beyond the border, where some queries see it through the window, stays where it is. Runs that
  /// together are longer than the room stand side by side.
  static func spread(_ starts: [Int], sizes: [Int], border: Int, room: Int) -> [Int] {
    let room = max(0, min(room, border))
    var places = [Int](repeating: 0, count: starts.count)
    var free = border - room
    for (index, start) in starts.enumerated() {
      let place = start < border ? border - room + start * room / border : start
      places[index] = max(free, place)
      free = places[index] + sizes[index]
    }
    // What was pushed over the border, or over what lies beyond it, moves back.
    var limit = Int.max
    for index in starts.indices.reversed() {
      let end = min(limit, max(border, starts[index] + sizes[index]))
      places[index] = min(places[index], end - sizes[index])
      limit = places[index]
    }
    return places
  }
}

extension HierarchicalPruning {
  /// Positions of the sink and of each selected block under `spread`, none of them negative.
  ///
  /// The sink's first, then those of the blocks that begin at `blocks`, ascending; for queries from `start` on. A trained
  /// length of `Int.max` is not known: all stand side by side.
  public func spreadPositions(blocks: [Int], queriesFrom start: Int, trainedLength: Int) -> [Int] {
    let count = sink + blocks.count * blockSize
    // The last query of a block is that much further from the first key than its first query.
    let known = trainedLength == .max ? 0 : trainedLength - window - queryBlock
    return PositionScheme.spread(
      [0] + blocks, sizes: [sink] + blocks.map { _ in blockSize }, border: start - window,
      room: max(count, known)
    ).map { max(0, $0) }
  }
}
