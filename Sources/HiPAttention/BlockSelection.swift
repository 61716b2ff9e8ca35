// SPDX-License-Identifier: Apache-2.0

/// The key blocks that were selected for a run of queries.
public struct BlockSelection: Sendable, Hashable, Codable {
  /// Keys in a block.
  public let blockSize: Int
  /// First positions of the selected blocks, ascending: `[head][query block][block]`.
  public let blocks: [[[Int32]]]

  /// Stores a selection.
  public init(blockSize: Int, blocks: [[[Int32]]]) {
    self.blockSize = blockSize
    self.blocks = blocks
  }
}

extension BlockSelection {
  /// Throws unless these blocks could be what `pruning` selects for `queryCount` queries that stand
  /// at the last of `keyCount` keys.
  public func check(
    _ pruning: HierarchicalPruning, shape: AttentionShape, queryCount: Int, keyCount: Int
  ) throws(PolicyError) {
    guard blockSize == pruning.blockSize else {
      throw PolicyError(
        "the blocks are of \(blockSize) keys, those of the policy of \(pruning.blockSize)")
    }
    let rows = (queryCount + pruning.queryBlock - 1) / pruning.queryBlock
    guard blocks.count == shape.heads, blocks.allSatisfy({ $0.count == rows }) else {
      throw PolicyError(
        "there must be lists of blocks for \(shape.heads) heads of \(rows) query blocks each")
    }
    let perOwner =
      switch pruning.sharing {
      case .allHeads: shape.heads
      case .group: shape.groupSize
      case .head: 1
      }
    for (head, lists) in blocks.enumerated() {
      let owner = head / perOwner * perOwner
      guard lists == blocks[owner] else {
        throw PolicyError(
          "head \(head) has other blocks than the heads it shares with; use \"sharing\": \"head\""
        )
      }
      for starts in lists {
        guard zip(starts, starts.dropFirst()).allSatisfy({ $0 < $1 }),
          starts.allSatisfy({
            Int($0) >= pruning.sink && Int($0) + blockSize <= keyCount && Int($0) % blockSize == 0
          })
        else {
          throw PolicyError(
            "the blocks of head \(head) must ascend in multiples of \(blockSize), behind the sink and "
              + "within the keys")
        }
      }
    }
  }
}
