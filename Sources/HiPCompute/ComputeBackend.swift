// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPKVStore
public import HiPTensors

/// One device: memory and operations, no decisions.
///
/// All calls come from one thread at a time. Operations are complete when `read` returns.
public protocol ComputeBackend: AnyObject, Sendable {
  /// A name for reports, with the kernels in use.
  var name: String { get }
  /// What has happened so far.
  var counters: ComputeCounters { get }

  /// Zeroed memory.
  func makeBuffer(byteCount: Int) throws(ComputeError) -> any DeviceBuffer
  /// A tensor over bytes of a mapped file, which stays mapped as long as the tensor lives.
  func makeTensor(_ bytes: MappedRange, element: ElementType, rows: Int, columns: Int)
    throws(ComputeError) -> DeviceTensor
  /// Room for pages of keys and values.
  func makePageStore(_ layout: KVLayout) -> any PageStore
  /// Nothing selected yet.
  func makeSelectionState() -> any SelectionState

  func embed(_ call: EmbedCall)
  func normalize(_ call: NormCall)
  /// Products that all have the same input.
  func multiply(_ calls: [MatmulCall])
  func activate(_ call: GateCall)
  func append(_ call: AppendCall)
  func select(_ call: SelectCall)
  /// The scores of the first stage's chunks, `[blocks of queries * owners + owner]`, where blocks that
  /// share the stage count as one and heads that share a selection have one owner; chunks within the window have `inactiveScore`.
  func scores(_ call: SelectCall) -> [ChunkScores]
  func attend(_ call: AttendCall)
  /// The elements of a float32 tensor, row by row.
  func read(_ tensor: DeviceTensor) -> [Float]
  /// Replaces the elements of a float32 tensor.
  func write(_ values: [Float], to tensor: DeviceTensor)
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

/// What a backend has done since it was made.
///
/// Exact, and cheap enough to keep always.
public struct ComputeCounters: Sendable, Hashable {
  /// Buffers made.
  public var buffers = 0
  /// Times that results were read back.
  public var reads = 0
  /// Selections that ran at least one stage.
  public var selections = 0

  /// Nothing has happened yet.
  public init() {}
}

/// The pages of a device's KV cache, by id.
public protocol PageStore: AnyObject, Sendable {
  var layout: KVLayout { get }
  /// Makes sure that the page has memory; its contents are undefined.
  func provide(_ page: PageID) throws(ComputeError)
  /// Gives the page's memory back.
  func discard(_ page: PageID)
  /// Copies a page's contents.
  func copy(from source: PageID, to destination: PageID)
  /// A table for the pages of one sequence.
  func makeTable() -> any DevicePageTable
}

/// The pages of one sequence as the device sees them.
public protocol DevicePageTable: AnyObject, Sendable {
  /// Puts a page at `slot`, which is at most one past the last.
  func set(slot: Int, to page: PageID)
  /// Forgets the last `count` slots.
  func removeLast(_ count: Int)
}

/// The selected blocks of one sequence in one layer, and the stage inputs that decoding reuses.
public protocol SelectionState: AnyObject, Sendable {
  /// A second one with the same contents.
  func copy() -> any SelectionState
  /// Forgets everything.
  func clear()
  /// The blocks of the last selection, for tests and for showing what was read.
  func download(shape: AttentionShape, pruning: HierarchicalPruning) -> BlockSelection
  /// Counts what each block of the last selection holds of the softmax mass that its stages saw, by `share`, as
  /// votes for passages; nothing where the last stage had no choice.
  func count(into votes: inout PassageVotes)
  /// Takes blocks from elsewhere in place of a selection; heads that share must have the same.
  func upload(_ selection: BlockSelection, shape: AttentionShape, pruning: HierarchicalPruning)
}
