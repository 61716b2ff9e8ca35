// SPDX-License-Identifier: Apache-2.0

package import HiPAttention
package import HiPCompute
internal import HiPKVFiles
package import HiPModels

/// A model on a device, with the caches of all its sequences: runs plans, decides nothing.
///
/// Belongs to one thread.
package final class ModelRunner {
  package let model: DecoderModel
  package let blocks: SharedBlocks
  /// What later texts can begin with.
  package let prefixes: PrefixCache
  /// What lies below memory; nil: nothing does.
  let tier: SegmentTier?
  /// What stored keys and values depend on; nil: none are stored.
  let identity: ModelIdentity?
  /// What was asked for; nil: all stays in memory.
  let tiers: KVTiers?
  private var stores: [KVFormat: any KVStore] = [:]
  private var caches: [SequenceID: SequenceCache] = [:]
  private var lastNumber = 0

  /// A runner whose sequences together take at most `capacity` bytes of keys and values, half of which may be kept
  /// for later texts.
  package init(_ model: DecoderModel, capacity: Int) {
    self.model = model
    blocks = SharedBlocks(capacity: capacity)
    prefixes = PrefixCache(blocks, limit: capacity / 2)
    tier = nil
    identity = nil
    tiers = nil
  }

  /// A runner whose sequences take memory and files as `tiers` allow.
  package init(
    _ model: DecoderModel, _ identity: ModelIdentity, _ tiers: KVTiers, capacity: Int
  ) throws {
    self.model = model
    self.identity = identity
    self.tiers = tiers
    blocks = SharedBlocks(capacity: capacity, isTiered: true)
    prefixes = PrefixCache(blocks, limit: capacity / 2)
    tier = SegmentTier(
      blocks,
      folder: try tiers.usedFolder.map {
        try CacheFolder(
          path: $0, byteLimit: tiers.diskByteCount, writesPerDay: tiers.writesPerDay ?? .max)
      }, scratchLimit: tiers.diskByteCount)
  }

  package var backend: any ComputeBackend { model.backend }

  /// An empty sequence.
  package func open(_ format: KVFormat) -> SequenceID {
    let store = stores[format] ?? blocks.makeStore(format, on: backend)
    stores[format] = store
    return add(SequenceCache(store: store, blocks: blocks))
  }

  /// A sequence that begins as another one is now.
  package func fork(_ id: SequenceID) -> SequenceID {
    let copy = add(cache(id).fork())
    tier?.fork(id, to: copy)
    return copy
  }

  private func add(_ cache: SequenceCache) -> SequenceID {
    lastNumber += 1
    let id = SequenceID(number: lastNumber)
    caches[id] = cache
    tier?.open(id, cache)
    return id
  }

  /// Forgets a sequence.
  package func close(_ id: SequenceID) {
    caches[id] = nil
    tier?.close(id)
  }

  /// Forgets the tokens of a sequence.
  package func clear(_ id: SequenceID) {
    cache(id).truncate(to: 0)
    tier?.reset(id)
  }

  /// The keys and values of an open sequence.
  package func cache(_ id: SequenceID) -> SequenceCache {
    guard let cache = caches[id] else { preconditionFailure("the sequence was closed") }
    return cache
  }

  /// Makes room for `count` more tokens of a sequence, of what is kept for later texts where need be.
  package func reserve(_ count: Int, for id: SequenceID) throws(ComputeError) {
    let cache = cache(id)
    let missing = cache.missingByteCount(for: count)
    if missing > 0 { prefixes.makeRoom(blocks.freeByteCount + missing) }
    do {
      try cache.reserve(count)
    } catch {
      // A device may have less left than was thought: others take of it, too.
      guard case .outOfMemory = error.code, prefixes.dropLeastRecent() else { throw error }
      while prefixes.dropLeastRecent() {}
      try cache.reserve(count)
    }
  }

  /// What tiers have done so far; nil without tiers.
  var tierStatistics: KVTierStatistics? {
    guard let tier else { return nil }
    var traffic = PageTraffic(layerCount: model.architecture.layerCount)
    for store in stores.values {
      guard let pages = store.paged?.traffic else { continue }
      for layer in pages.hits.indices {
        traffic.hits[layer] += pages.hits[layer]
        traffic.misses[layer] += pages.misses[layer]
      }
    }
    return KVTierStatistics(
      hits: traffic.hits, misses: traffic.misses, bytesRead: tier.traffic.bytesRead,
      bytesWritten: tier.traffic.bytesWritten, memoryByteCount: blocks.residentByteCount,
      diskByteCount: tier.folder?.byteCount ?? 0)
  }

  /// Makes room for the pages that a step writes.
  private func makeRoom(for plan: StepPlan, _ caches: [SequenceCache]) throws(ComputeError) {
    guard let tier else { return }
    var counts: [ObjectIdentifier: (store: any KVStore, blocks: Int)] = [:]
    for (slice, cache) in zip(plan.slices, caches) {
      let size = cache.store.format.blockSize
      let count = (slice.start % size + slice.tokens.count + size - 1) / size
      counts[ObjectIdentifier(cache.store), default: (cache.store, 0)].blocks += count
    }
    for (store, count) in counts.values {
      try tier.makeRoom(forBlocks: count, in: store) { prefixes.dropLeastRecent() }
    }
  }

  /// Runs a step, waits for it once, and counts its tokens as stored.
  ///
  /// Room for them has been reserved.
  /// - Throws: when the device failed; no sequence has moved then.
  package func run(
    _ plan: StepPlan, observe: ((Int, LayerObservation) -> Void)? = nil
  ) throws(ComputeError) -> [SliceOutput] {
    let caches = plan.slices.map { cache($0.sequence) }
    try makeRoom(for: plan, caches)
    // Evictions are undone where the step fails; selections are made anew.
    let before = zip(plan.slices, caches).map { slice, cache in
      if case .heavyHitters = slice.attention.policy {
        cache.heavyHitters.copy()
      } else {
        nil as (any HeavyHitterState)?
      }
    }
    func undo(_ index: Int) { before[index].map { caches[index].heavyHitters = $0 } }
    let owners = model.encode(plan, caches, observe: observe)
    let step: StepOutput
    do {
      step = try backend.submit()
    } catch {
      plan.slices.indices.forEach(undo)
      throw error
    }
    var outputs = [SliceOutput](repeating: SliceOutput(), count: plan.slices.count)
    // The first fault of a sequence says where its numbers stopped being finite; others follow from it.
    for fault in step.faults {
      guard let owner = plan.rows.firstIndex(where: { $0.contains(fault.row) }) else { continue }
      outputs[owner].fail(fault.layer, of: model.architecture.layerCount)
    }
    for (owner, result) in zip(owners, step.results) {
      outputs[owner].add(result, of: plan.slices[owner].output, model.architecture.hiddenSize)
    }
    for (number, votes) in step.votes { outputs[number].votes = votes }
    for (index, slice) in plan.slices.enumerated() {
      if slice.kind == .probe || outputs[index].failure != nil {
        undo(index)
      } else {
        caches[index].advance(slice.tokens)
      }
    }
    return outputs
  }
}

/// What a step brought for one slice.
package struct SliceOutput: Sendable {
  /// The tokens that may follow.
  package fileprivate(set) var candidates: Candidates?
  /// One for each target.
  package fileprivate(set) var negativeLogLikelihoods: [Double] = []
  /// The most probable tokens in the place of each target, where they were asked for.
  package fileprivate(set) var alternatives: [Candidates] = []
  /// Sum of the hidden states of all rows, where it was asked for.
  package fileprivate(set) var hiddenState: [Double] = []
  /// What a probe drew on.
  package fileprivate(set) var votes: PassageVotes?
  /// Why the slice is void.
  package fileprivate(set) var failure: ComputeError?

  fileprivate mutating func add(
    _ result: SampleResult, of output: SequenceSlice.Output, _ hiddenSize: Int
  ) {
    switch result {
    case .candidates(let rows):
      if case .candidates = output { candidates = rows.first } else { alternatives += rows }
    case .negativeLogLikelihoods(let values): negativeLogLikelihoods += values
    case .logits(let rows):
      if hiddenState.isEmpty { hiddenState = .init(repeating: 0, count: hiddenSize) }
      for (index, value) in rows.enumerated() { hiddenState[index % hiddenSize] += Double(value) }
    case .notFinite: fail("the logits", layer: nil)
    }
  }

  fileprivate mutating func fail(_ layer: Int?, of count: Int) {
    fail(
      layer.map { "layer \($0) (of 0 to \(count - 1))" } ?? "the embedding of a token",
      layer: layer)
  }

  private mutating func fail(_ place: String, layer: Int?) {
    guard failure == nil else { return }
    failure = ComputeError(
      .notFinite(layer: layer),
      "the numbers are not finite from \(place) on. The file is damaged, or its weights overflow; try "
        + "another file of the model")
  }
}
