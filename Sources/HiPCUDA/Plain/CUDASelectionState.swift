// SPDX-License-Identifier: Apache-2.0

package import HiPAttention
package import HiPCompute

/// What selections leave behind in one layer of one sequence, in the device's memory.
package struct LayerSelection {
  /// Blocks of queries, sets of heads that share a selection, and blocks that a list has room for.
  package var blockCount = 0
  package var ownerCount = 0
  package var capacity = 0
  /// First position / block size of the selected blocks, ascending 32-bit integers, `[query block][owner][capacity]`;
  /// nil: nothing is selected.
  package var lists: CUDABuffer?
  /// How many each list has, 32-bit, `[query block][owner]`.
  package var counts: CUDABuffer?
  /// The share of the softmax mass that each selected block holds, 32-bit, as `lists`; nil where they are not known, 0
  /// where there was no choice.
  package var shares: CUDABuffer?
  /// What each stage but the first started from in the last decoding step that computed it, by stage.
  package var stageInputs: [StageInput?] = []
  /// What the last selection was asked to report.
  var scores: [ReportedScores] = []

  package init() {}

  /// What the stage before has kept of one block of queries.
  package struct StageInput {
    /// First positions of its chunks, ascending 32-bit integers, `[owner][capacity]`.
    package var starts: CUDABuffer
    /// How many each owner has, 32-bit.
    package var counts: CUDABuffer
    /// The share of the softmax mass that they hold, 32-bit, `[owner]`.
    package var held: CUDABuffer
    package var capacity: Int

    package init(starts: CUDABuffer, counts: CUDABuffer, held: CUDABuffer, capacity: Int) {
      self.starts = starts
      self.counts = counts
      self.held = held
      self.capacity = capacity
    }
  }

  /// Scores of the first stage's chunks for some ranges of queries.
  struct ReportedScores {
    /// First positions of each range's chunks.
    let starts: [[Int32]]
    /// 64-bit, `[range][set][capacity]`; the first set of each owner has the owner's.
    let scores: CUDABuffer
    let owners, sets, capacity: Int
  }

  /// Forgets what goes with the lists, which are about to be written anew.
  package mutating func keepListsOnly() {
    shares = nil
    stageInputs = []
    scores = []
  }

  /// Keeps what a stage starts from in decoding.
  package mutating func keep(_ input: StageInput, asInputOf stage: Int) {
    while stageInputs.count <= stage { stageInputs.append(nil) }
    stageInputs[stage] = input
  }

  /// Makes room for lists, in the same memory where they have the same size; in other memory they hold zeros.
  package mutating func reserve(
    blocks: Int, owners: Int, capacity: Int, hasShares: Bool, _ memory: DeviceMemory,
    on stream: CUDAStream
  ) throws(ComputeError) {
    func room(_ before: CUDABuffer?, _ count: Int) throws(ComputeError) -> CUDABuffer {
      if let before, before.byteCount == 4 * count { return before }
      let buffer = try memory.allocate(byteCount: 4 * count)
      // Whole lists are copied, and not every list is full.
      if count > 0 { try stream.fill(buffer.all, with: 0) }
      return buffer
    }
    (blockCount, ownerCount, self.capacity) = (blocks, owners, capacity)
    let count = blocks * owners
    lists = try room(lists, count * capacity)
    counts = try room(counts, count)
    shares = hasShares ? try room(shares, count * capacity) : nil
  }

  /// The same in memory of its own.
  fileprivate func copy(
    _ memory: DeviceMemory, on stream: CUDAStream
  ) throws(ComputeError) -> LayerSelection {
    func copy(_ buffer: CUDABuffer?) throws(ComputeError) -> CUDABuffer? {
      guard let buffer else { return nil }
      return try copied(buffer, memory, on: stream)
    }
    var selection = self
    selection.lists = try copy(lists)
    selection.counts = try copy(counts)
    selection.shares = try copy(shares)
    for (index, input) in stageInputs.enumerated() {
      guard let input else { continue }
      selection.stageInputs[index] = StageInput(
        starts: try copied(input.starts, memory, on: stream),
        counts: try copied(input.counts, memory, on: stream),
        held: try copied(input.held, memory, on: stream), capacity: input.capacity)
    }
    return selection
  }
}

/// A buffer with the same contents.
func copied(
  _ buffer: CUDABuffer, _ memory: DeviceMemory, on stream: CUDAStream
) throws(ComputeError) -> CUDABuffer {
  let copy = try memory.allocate(byteCount: buffer.byteCount)
  if buffer.byteCount > 0 { try stream.copy(buffer.all, to: copy.all) }
  return copy
}

/// The selections of one sequence, layer by layer.
package final class CUDASelectionState: SelectionState {
  package var layers: [LayerSelection]
  private let memory: DeviceMemory
  private let stream: CUDAStream
  /// Hears of what went wrong where a call cannot say so itself.
  private let onFailure: (ComputeError) -> Void
  /// Enqueues selections that were called for and wait.
  private let settle: () -> Void

  package init(
    _ memory: DeviceMemory, _ stream: CUDAStream, layerCount: Int,
    onFailure: @escaping (ComputeError) -> Void = { _ in }, settle: @escaping () -> Void = {}
  ) {
    layers = .init(repeating: LayerSelection(), count: layerCount)
    self.memory = memory
    self.stream = stream
    self.onFailure = onFailure
    self.settle = settle
  }

  /// Enqueues copies; when one fails, the second one has nothing selected.
  package func copy() -> any SelectionState {
    settle()
    let state = CUDASelectionState(
      memory, stream, layerCount: layers.count, onFailure: onFailure, settle: settle)
    do throws(ComputeError) {
      for (index, layer) in layers.enumerated() {
        state.layers[index] = try layer.copy(memory, on: stream)
      }
    } catch {
      state.clear()
      onFailure(error)
    }
    return state
  }

  package func clear() {
    settle()
    layers = .init(repeating: LayerSelection(), count: layers.count)
  }

  /// Waits for the device; nothing where that fails.
  package func download(
    layer: Int, shape: AttentionShape, pruning: HierarchicalPruning
  ) -> BlockSelection {
    let nothing = BlockSelection(
      blockSize: pruning.blockSize, blocks: .init(repeating: [], count: shape.heads))
    settle()
    let selection = layers[layer]
    guard let lists = selection.lists, let counts = selection.counts else { return nothing }
    let (owners, capacity) = (selection.ownerCount, selection.capacity)
    let headsPerOwner = shape.heads / max(1, owners)
    do throws(ComputeError) {
      let count = selection.blockCount * owners
      let sizes = try stream.downloadElements(count, of: counts, as: Int32(0))
      let numbers = try stream.downloadElements(count * capacity, of: lists, as: Int32(0))
      let size = Int32(pruning.blockSize)
      let blocks = (0..<shape.heads).map { head in
        (0..<selection.blockCount).map { block in
          let list = block * owners + head / headsPerOwner
          let length = min(capacity, max(0, Int(sizes[list])))
          return numbers[list * capacity..<list * capacity + length].map { $0 * size }
        }
      }
      return BlockSelection(blockSize: pruning.blockSize, blocks: blocks)
    } catch {
      onFailure(error)
      return nothing
    }
  }

  /// Waits for the device; none where that fails.
  package func scores(layer: Int) -> [ChunkScores] {
    settle()
    do throws(ComputeError) {
      var result: [ChunkScores] = []
      for reported in layers[layer].scores {
        let scores = try stream.downloadElements(
          reported.starts.count * reported.sets * reported.capacity, of: reported.scores,
          as: 0.0)
        for (range, starts) in reported.starts.enumerated() {
          for owner in 0..<reported.owners {
            let set = range * reported.sets + owner * reported.sets / reported.owners
            let first = set * reported.capacity
            result.append(
              ChunkScores(
                starts: starts,
                scores: scores[first..<first + starts.count].map { Float($0) }))
          }
        }
      }
      return result
    } catch {
      onFailure(error)
      return []
    }
  }

  package func upload(
    _ selection: BlockSelection, layer: Int, shape: AttentionShape, pruning: HierarchicalPruning
  ) {
    settle()
    let owners = pruning.sharing.owners(shape)
    let heads = stride(from: 0, to: shape.heads, by: shape.heads / owners)
    let blockCount = selection.blocks.first?.count ?? 0
    let capacity = selection.blocks.joined().map(\.count).max() ?? 0
    var lists: [Int32] = []
    var counts: [Int32] = []
    for block in 0..<blockCount {
      for head in heads {
        let starts = selection.blocks[head][block]
        lists += starts.map { $0 / Int32(pruning.blockSize) }
        lists += [Int32](repeating: 0, count: capacity - starts.count)
        counts.append(Int32(starts.count))
      }
    }
    do throws(ComputeError) {
      var new = layers[layer]
      try new.reserve(
        blocks: blockCount, owners: owners, capacity: capacity, hasShares: false, memory,
        on: stream)
      if let buffer = new.lists { try stream.uploadElements(lists, to: buffer) }
      if let buffer = new.counts { try stream.uploadElements(counts, to: buffer) }
      layers[layer] = new
    } catch {
      layers[layer] = LayerSelection()
      onFailure(error)
    }
  }
}

extension SelectionState {
  /// The state as the device's own.
  package var onCUDA: CUDASelectionState {
    precondition(
      type(of: self) == CUDASelectionState.self, "a state of another device was given to the GPU")
    return unsafe unsafeDowncast(self, to: CUDASelectionState.self)
  }
}
