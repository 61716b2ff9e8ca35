// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPKVStore

/// The memory of a device's blocks of one format, by id.
public protocol KVStore: AnyObject {
  var format: KVFormat { get }
  /// Its pages, where a lower tier holds what this one has no room for.
  var paged: (any PagedStore)? { get }
  /// Makes sure that blocks have a slot in each layer, all of them or none; their contents are undefined.
  func provide(_ blocks: [BlockID]) throws(ComputeError)
  /// Gives a block's slots back.
  func discard(_ block: BlockID)
  /// Gives back the memory of a block's keys and values in the format's sliding layers, where nobody will read them
  /// again; the block keeps its slots.
  func releaseSliding(_ block: BlockID)
  /// Copies a block's contents.
  func copy(from source: BlockID, to destination: BlockID) throws(ComputeError)
  /// A table for the blocks of one sequence.
  func makeTable() -> any DeviceBlockTable
  /// Nothing selected yet.
  func makeSelectionState() -> any SelectionState
  /// Nothing evicted yet.
  func makeHeavyHitterState() -> any HeavyHitterState
}

/// The blocks of one sequence as the device sees them.
public protocol DeviceBlockTable: AnyObject {
  /// Puts a block at `place`, which is at most one past the last.
  func set(place: Int, to block: BlockID)
  /// Forgets the last `count` places.
  func removeLast(_ count: Int)
}

/// The selected blocks of one sequence in all layers, and the stage inputs that decoding goes on from.
public protocol SelectionState: AnyObject {
  /// A second one with the same contents.
  func copy() -> any SelectionState
  /// Forgets everything.
  func clear()
  /// The blocks of the last selection, for tests and for showing what was attended to.
  func download(layer: Int, shape: AttentionShape, pruning: HierarchicalPruning) -> BlockSelection
  /// The scores that the last selection was asked to report, `[blocks of queries * owners + owner]`, where
  /// blocks that share the first stage count as one and heads that share a selection have one owner; chunks
  /// within the window have `inactiveScore`.
  func scores(layer: Int) -> [ChunkScores]
  /// Takes blocks from elsewhere in place of a selection; heads that share must have the same.
  func upload(
    _ selection: BlockSelection, layer: Int, shape: AttentionShape, pruning: HierarchicalPruning)
}

/// The keys that one sequence still holds under H2O, in all layers.
public protocol HeavyHitterState: AnyObject {
  /// A second one with the same contents.
  func copy() -> any HeavyHitterState
  /// Forgets everything.
  func clear()
}

/// How a stage judged its chunks.
public struct ChunkScores: Sendable, Hashable {
  /// First positions of the chunks, ascending.
  public let starts: [Int32]
  /// One per chunk.
  public let scores: [Float]

  /// Stores the two.
  public init(starts: [Int32], scores: [Float]) {
    self.starts = starts
    self.scores = scores
  }
}
