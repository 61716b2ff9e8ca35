// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPKVFiles
internal import HiPKVStore
internal import HiPModels

/// The segments of sequences below memory: writes them behind the engine's back, and lets texts begin with those that
/// are known.
///
/// Belongs to the engine's thread.
final class SegmentTier {
  /// Segments that other sequences and processes may begin with; nil: none are kept.
  let folder: CacheFolder?
  let blocks: SharedBlocks
  let writer = SegmentWriter()
  var chains: [SequenceID: SegmentChain] = [:]
  /// What leaves memory without being anybody's beginning, by the shape of its segments.
  var scratch: [SegmentShape: ScratchFile] = [:]
  let scratchLimit: Int
  /// What went to saved contexts that are complete.
  var finishedTraffic = Traffic()
  /// Why nothing more is written to the folder.
  var folderProblem: KVFileError?
  /// What users should know, since this was last asked for.
  var notices: [String] = []

  /// What is being written, and whose it is.
  var pending: [Int: PendingWrite] = [:]
  var lastWrite = 0

  init(_ blocks: SharedBlocks, folder: CacheFolder?, scratchLimit: Int) {
    self.blocks = blocks
    self.folder = folder
    self.scratchLimit = scratchLimit
  }

  // What is being written lies in memory that goes with the sequences.
  deinit { finish() }

  /// What users should know, since this was last asked for.
  func takeNotices() -> [String] {
    defer { notices = [] }
    return notices
  }

  // MARK: Sequences

  func open(_ id: SequenceID, _ cache: SequenceCache) { chains[id] = SegmentChain(cache: cache) }

  /// A second sequence goes on from where one is now; what it reads from here on, it keeps to itself.
  func fork(_ id: SequenceID, to copy: SequenceID) {
    guard let chain = chains[id] else { return }
    chains[copy]?.opened = chain.opened
  }

  func close(_ id: SequenceID) { chains[id] = nil }

  /// Forgets what a sequence has below; it is empty, or is cut.
  func reset(_ id: SequenceID) {
    guard let cache = chains[id]?.cache else { return }
    chains[id] = SegmentChain(cache: cache)
  }

  /// Whether a sequence has begun with a saved context.
  func beginsWithFile(_ id: SequenceID) -> Bool { chains[id]?.opened != nil }

  /// Lets a sequence's plain segments be found by others, and writes them to a file besides.
  func name(_ id: SequenceID, _ kind: ContextKind, savingTo file: ContextFileWriter? = nil) {
    chains[id]?.kind = kind
    chains[id]?.file = file
    // Disks get room, and days end.
    folderProblem = nil
  }

  func segmentLength(_ cache: SequenceCache) -> Int {
    let size = cache.store.format.blockSize
    return max(1, DecoderModel.largestPrefill / size) * size
  }

  /// What tiers have done so far.
  var traffic: Traffic {
    var sum = folder?.traffic ?? Traffic()
    sum.bytesRead += finishedTraffic.bytesRead
    sum.bytesWritten += finishedTraffic.bytesWritten
    for file in scratch.values {
      sum.bytesRead += file.traffic.bytesRead
      sum.bytesWritten += file.traffic.bytesWritten
    }
    for chain in chains.values {
      sum.bytesRead += chain.opened?.traffic.bytesRead ?? 0
      sum.bytesRead += chain.file?.traffic.bytesRead ?? 0
      sum.bytesWritten += chain.file?.traffic.bytesWritten ?? 0
    }
    return sum
  }
}
