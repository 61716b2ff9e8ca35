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
