// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPKVFiles
internal import HiPKVStore
internal import HiPModels

extension SegmentTier {
  /// Makes room for blocks that are about to be written, by writing others below.
  /// - Parameter giveUp: gives up something that is kept for later; false when nothing is.
  /// - Throws: when nothing more can go there.
  func makeRoom(
    forBlocks count: Int, in store: any KVStore, giveUp: () -> Bool
  ) throws(ComputeError) {
    guard let paged = store.paged else { return }
    settle(waiting: false)
    while !paged.hasRoom(forBlocks: count) {
      if writer.pendingCount > 0 {
        settle(waiting: true)
      } else if try !spill(), !giveUp() {
        throw ComputeError(
          .outOfMemory(neededBytes: count * store.format.rowsByteCount * store.format.layerCount),
          "keys and values do not fit into the \(blocks.capacity / 1_000_000) MB that they may take, and "
            + "\(folderProblem?.message ?? "no more may be written below (--kv-disk, --kv-dir, --kv-writes)")"
        )
      }
    }
  }

  /// Writes a segment of any sequence that lies in memory only; false when there is none.
  func spill() throws(ComputeError) -> Bool {
    guard let folder, folder.writesPerDay > 0 else { return false }
    var problem: KVFileError?
    for (id, chain) in chains {
      let cache = chain.cache
      let size = segmentLength(cache)
      var number = chain.spilledCount
      while (number + 1) * size <= cache.length, isStored(number, of: cache) { number += 1 }
      chains[id]?.spilledCount = number
      problem = problem ?? chain.problem
      guard chain.problem == nil, (number + 1) * size <= cache.length else { continue }
      let shape = shape(of: cache)
      let identity = SegmentIdentity(
        kind: Digest256(of: []), parent: Digest256(of: []), index: number,
        tokens: Array(cache.tokens[number * size..<(number + 1) * size]))
      try write(id, cache, identity, shape, to: .scratch(scratchFile(shape, in: folder), folder))
      chains[id]?.spilledCount = number + 1
      return true
    }
    if let problem { throw ComputeError(.lowerTier, problem.message, cause: problem) }
    return false
  }

  func scratchFile(
    _ shape: SegmentShape, in folder: CacheFolder
  ) throws(ComputeError) -> ScratchFile {
    if let file = scratch[shape] { return file }
    do throws(KVFileError) {
      let file = try ScratchFile(folder: folder.path, shape: shape, byteLimit: scratchLimit)
      scratch[shape] = file
      return file
    } catch {
      throw ComputeError(.lowerTier, error.message, cause: error)
    }
  }

  func shape(of cache: SequenceCache) -> SegmentShape {
    let format = cache.store.format
    return SegmentShape(
      blockSize: format.blockSize, blocksPerSegment: segmentLength(cache) / format.blockSize,
      pagesPerBlock: format.pagesPerBlock, pageByteCount: format.pageByteCount,
      sketchByteCount: format.sketchByteCount)
  }
}
