// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute

/// What selections leave behind in one layer of one sequence.
struct LayerSelection {
  /// First positions of the selected blocks, `[query block][owner]`, ascending.
  ///
  /// An owner is a set of heads that share a selection.
  var blocks: [[[Int32]]] = []
  /// The share of the softmax mass that each selected block holds, `[query block][owner][block]`; empty lists
  /// where they are not known.
  var shares: [[[Float]]] = []
  /// What the stage before each stage but the first kept in the last decoding step that computed it,
  /// `[stage][owner]`.
  var stageInputs: [[StageCandidates]] = []
  /// What the last selection was asked to report.
  var scores: [ChunkScores] = []

  /// Keeps what a stage starts from in decoding.
  mutating func keep(_ chunks: [StageCandidates], asInputOf stage: Int) {
    while stageInputs.count <= stage { stageInputs.append([]) }
    stageInputs[stage] = chunks
  }

  /// Counts what each block holds as votes for passages; nothing where the last stage had no choice.
  func count(into votes: inout PassageVotes) {
    for (blocks, shares) in zip(blocks.joined(), shares.joined()) {
      votes.count(blocks, shares: shares)
    }
  }
}

/// The selections of one sequence, layer by layer.
final class CPUSelectionState: SelectionState {
  var layers: [LayerSelection]

  init(_ layerCount: Int) { layers = .init(repeating: LayerSelection(), count: layerCount) }

  func copy() -> any SelectionState {
    let state = CPUSelectionState(0)
    state.layers = layers
    return state
  }

  func clear() { layers = .init(repeating: LayerSelection(), count: layers.count) }

  func download(layer: Int, shape: AttentionShape, pruning: HierarchicalPruning) -> BlockSelection {
    let headsPerOwner = shape.heads / pruning.sharing.ownerCount(shape)
    let blocks = layers[layer].blocks
    return BlockSelection(
      blockSize: pruning.blockSize,
      blocks: (0..<shape.heads).map { head in blocks.map { $0[head / headsPerOwner] } })
  }

  func scores(layer: Int) -> [ChunkScores] { layers[layer].scores }

  func upload(
    _ selection: BlockSelection, layer: Int, shape: AttentionShape, pruning: HierarchicalPruning
  ) {
    let headsPerOwner = shape.heads / pruning.sharing.ownerCount(shape)
    let owners = stride(from: 0, to: shape.heads, by: headsPerOwner)
    layers[layer].blocks = (selection.blocks.first ?? []).indices.map { block in
      owners.map { selection.blocks[$0][block] }
    }
    layers[layer].shares = []
  }
}

/// The keys that one sequence holds under H2O, `[layer][kvHead]`; no heads before a layer's first step.
final class CPUHeavyHitterState: HeavyHitterState {
  var kept: [[[HeavyHitters.KeptKey]]]

  init(_ layerCount: Int) { kept = .init(repeating: [], count: layerCount) }

  func copy() -> any HeavyHitterState {
    let state = CPUHeavyHitterState(0)
    state.kept = kept
    return state
  }

  func clear() { kept = .init(repeating: [], count: kept.count) }
}

extension SelectionState {
  var onCPU: CPUSelectionState {
    precondition(
      type(of: self) == CPUSelectionState.self, "a state of another device was given to the CPU")
    return unsafeDowncast(self, to: CPUSelectionState.self)
  }
}

extension HeavyHitterState {
  var onCPU: CPUHeavyHitterState {
    precondition(
      type(of: self) == CPUHeavyHitterState.self, "a state of another device was given to the CPU")
    return unsafeDowncast(self, to: CPUHeavyHitterState.self)
  }
}

extension HeadSharing {
  /// Number of sets of heads that share a selection.
  func ownerCount(_ shape: AttentionShape) -> Int {
    switch self {
    case .allHeads: 1
    case .group: shape.kvHeads
    case .head: shape.heads
    }
  }
}
