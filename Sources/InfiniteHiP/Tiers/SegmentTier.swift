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
  private let blocks: SharedBlocks
  private let writer = SegmentWriter()
  private var chains: [SequenceID: SegmentChain] = [:]
  /// What leaves memory without being anybody's beginning, by the shape of its segments.
  private var scratch: [SegmentShape: ScratchFile] = [:]
  private let scratchLimit: Int
  /// Why nothing more is written to the folder.
  private(set) var folderProblem: KVFileError?
  /// What users should know, since this was last asked for.
  private var notices: [String] = []

  /// What is being written, and whose it is.
  private var pending: [Int: PendingWrite] = [:]
  private var lastWrite = 0

  private struct PendingWrite {
    let sequence: SequenceID
    let cache: SequenceCache
    let blocks: [BlockID]
    let segment: Int
    let isNamed: Bool
  }

  /// The segments of one sequence.
  private struct SegmentChain {
    let cache: SequenceCache
    /// What others must have in common to begin with them; nil: nobody does.
    var kind: ContextKind?
    /// A saved context that grows.
    var file: ContextFileWriter?
    /// Segments that the file has, or that are on their way to it.
    var fileCount = 0
    /// Digests of the leading segments that are written, or on their way.
    var digests: [Digest256] = []
    /// Segments before this one lie below, or are on their way.
    var spilledCount = 0
    /// The saved context that it began with.
    var opened: ContextFile?
    /// Why its file could not be written.
    var problem: KVFileError?
    /// Segments whose keys and values are not there.
    var broken: Set<Int> = []

    /// A segment lies in memory only, again.
    mutating func forget(from number: Int) { spilledCount = min(spilledCount, number) }
  }

  init(_ blocks: SharedBlocks, folder: CacheFolder?, scratchLimit: Int) {
    self.blocks = blocks
    self.folder = folder
    self.scratchLimit = scratchLimit
  }

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
    chains[copy]?.spilledCount = chain.spilledCount
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
  }

  private func segmentLength(_ cache: SequenceCache) -> Int {
    let size = cache.store.format.blockSize
    return max(1, DecoderModel.largestPrefill / size) * size
  }

  // MARK: Reading

  /// Lets a sequence, which has begun with `reused` tokens of its text, go on with stored segments.
  ///
  /// Sketches are read now, pages when something attends to them.
  /// - Returns: tokens that it begins with.
  func restore(
    _ tokens: ArraySlice<Int32>, of id: SequenceID, reused: Int
  ) throws(ComputeError) -> Int {
    guard let chain = chains[id], let kind = chain.kind else { return reused }
    let size = kind.shape.tokenCapacity
    let start = reused / size
    var parent = kind.digest
    var digests: [Digest256] = []
    var found: [StoredSegment] = []
    for number in 0..<tokens.count / size {
      let first = tokens.startIndex + number * size
      let identity = SegmentIdentity(
        kind: kind.digest, parent: parent, index: number,
        tokens: Array(tokens[first..<first + size]))
      parent = identity.digest
      if number >= start {
        guard let segment = find(identity, kind, chain.file) else { break }
        found.append(segment)
      }
      digests.append(identity.digest)
    }
    let end = (start + found.count) * size
    if let file = chain.file {
      do throws(KVFileError) {
        // What is of another text goes; what the folder has of this one comes behind.
        let own = (0..<file.segmentCount).prefix {
          $0 < digests.count && file.digest(of: $0) == digests[$0]
        }
        try file.keepFirst(own.count)
        chains[id]?.fileCount = own.count
      } catch {
        throw ComputeError(.lowerTier, error.message, cause: error)
      }
    }
    guard end > reused else {
      chains[id]?.digests = Array(digests.prefix(start))
      return reused
    }
    chain.cache.truncate(to: start * size)
    try restore(
      found.map { .found($0) }, of: id, tokens.dropFirst(start * size).prefix(end - start * size))
    folder?.touch(found)
    chains[id]?.digests = Array(digests.prefix(start + found.count))
    return end
  }

  private func find(
    _ identity: SegmentIdentity, _ kind: ContextKind, _ file: ContextFileWriter?
  ) -> StoredSegment? {
    if let file, identity.index < file.segmentCount,
      file.digest(of: identity.index) == identity.digest,
      case .found(let segment) = file.segment(identity.index)
    {
      return segment
    }
    switch folder?.find(kind, digest: identity.digest) {
    case .found(let segment): return segment
    case .damaged(let error):
      notices.append("\(error.message); computed anew")
      return nil
    case .absent, nil: return nil
    }
  }

  /// Puts segments, which hold `tokens`, behind the tokens of a sequence.
  ///
  /// Those that are damaged have no keys and values yet: `takeBroken` tells which.
  func restore(
    _ segments: [Lookup], of id: SequenceID, _ tokens: ArraySlice<Int32>
  ) throws(ComputeError) {
    guard let cache = chains[id]?.cache, let paged = cache.store.paged else { return }
    let blockSize = cache.store.format.blockSize
    let size = segmentLength(cache)
    let first = cache.length
    try cache.reserve(tokens.count)
    cache.advance(tokens)
    let blocks = cache.filledBlocks
    var stored: [(number: Int, segment: StoredSegment)] = []
    for (index, lookup) in segments.enumerated() {
      let number = first / size + index
      switch lookup {
      case .found(let segment): stored.append((number, segment))
      case .damaged(let error): noteBroken(number, of: id, error)
      case .absent: noteBroken(number, of: id, nil)
      }
    }
    SketchReading.read(stored.map(\.segment)) { index, result in
      let (number, segment) = stored[index]
      switch result {
      case .success(let sketches):
        let tier = SegmentBlocks(segment)
        for block in 0..<segment.blockCount {
          let bytes = segment.shape.sketchByteCount
          unsafe paged.restore(
            blocks[number * size / blockSize + block],
            from: LowerPlace(tier: tier, block: block),
            sketches: UnsafeRawBufferPointer(
              rebasing: sketches[block * bytes..<(block + 1) * bytes]))
        }
      case .failure(let error): noteBroken(number, of: id, error)
      }
    }
    chains[id]?.spilledCount = cache.length / size
  }

  private func noteBroken(_ number: Int, of id: SequenceID, _ error: KVFileError?) {
    chains[id]?.broken.insert(number)
    if let error { notices.append("\(error.message); computed anew") }
  }

  /// Segments of a sequence whose keys and values are not what was stored, since this was last asked for.
  func takeBroken(_ id: SequenceID) -> [Int] {
    guard let chain = chains[id], let paged = chain.cache.store.paged else { return [] }
    var broken = chain.broken
    chains[id]?.broken = []
    let count = segmentLength(chain.cache) / chain.cache.store.format.blockSize
    for (place, block) in chain.cache.filledBlocks.enumerated() {
      guard let lower = paged.lowerPlace(of: block), lower.tier.isDamaged else { continue }
      if broken.insert(place / count).inserted {
        notices.append("\(lower.tier.location) is damaged; computed anew")
      }
    }
    return broken.sorted()
  }

  /// A segment of a sequence has been computed anew: what was stored of it goes.
  func replaceBroken(_ number: Int, of id: SequenceID) {
    chains[id]?.forget(from: number)
    guard let chain = chains[id], let kind = chain.kind, chain.file == nil, let folder,
      chain.digests.indices.contains(number)
    else { return }
    if let old = folder.find(kind, digest: chain.digests[number]).segment { folder.remove(old) }
    guard folderProblem == nil else { return }
    // Where that fails the segment merely stays in memory.
    try? write(
      id, chain.cache, identity(number, of: chain, kind), kind.shape, to: .folder(folder, kind))
  }

  // MARK: Writing

  /// Writes what has been completed of a sequence's plain text, which others may begin with.
  func advance(_ id: SequenceID, plainLength: Int) throws(ComputeError) {
    settle(waiting: false)
    guard var chain = chains[id], let kind = chain.kind, chain.file != nil || folder != nil else {
      return
    }
    if let problem = chain.problem {
      throw ComputeError(.lowerTier, problem.message, cause: problem)
    }
    let size = kind.shape.tokenCapacity
    while (chain.digests.count + 1) * size <= min(chain.cache.length, plainLength) {
      let number = chain.digests.count
      let identity = identity(number, of: chain, kind)
      if chain.file == nil, let folder, folderProblem == nil, !isStored(number, of: chain.cache) {
        try write(id, chain.cache, identity, kind.shape, to: .folder(folder, kind))
      }
      chain.digests.append(identity.digest)
      chains[id] = chain
    }
    while let file = chain.file, chain.fileCount < chain.digests.count {
      // What the folder has comes all at once: memory holds some of it at a time.
      while writer.pendingCount >= Self.pendingLimit { settle(waiting: true) }
      try write(
        id, chain.cache, identity(chain.fileCount, of: chain, kind), kind.shape, to: .file(file))
      chain.fileCount += 1
      chains[id] = chain
    }
  }

  /// Segments of a saved context that are on their way at once.
  private static let pendingLimit = 4

  private func identity(
    _ number: Int, of chain: SegmentChain, _ kind: ContextKind
  ) -> SegmentIdentity {
    let size = kind.shape.tokenCapacity
    return SegmentIdentity(
      kind: kind.digest, parent: number > 0 ? chain.digests[number - 1] : kind.digest,
      index: number,
      tokens: Array(
        chain.cache.tokens[number * size..<min((number + 1) * size, chain.cache.length)]))
  }

  private func places(_ number: Int, of cache: SequenceCache) -> Range<Int> {
    let count = segmentLength(cache) / cache.store.format.blockSize
    return number * count..<(number + 1) * count
  }

  private func isStored(_ number: Int, of cache: SequenceCache) -> Bool {
    guard let paged = cache.store.paged else { return true }
    return cache.fullBlocks[places(number, of: cache)].allSatisfy {
      paged.lowerPlace(of: $0) != nil
    }
  }

  /// Begins to write a segment; its blocks stay in memory until that is done.
  private func write(
    _ id: SequenceID, _ cache: SequenceCache, _ identity: SegmentIdentity, _ shape: SegmentShape,
    to target: SegmentTarget
  ) throws(ComputeError) {
    let number = identity.index
    let blocks = Array(
      cache.filledBlocks[places(number, of: cache).clamped(to: 0..<cache.filledBlocks.count)])
    let contents = try contents(of: blocks, of: cache, identity, shape)
    for block in blocks { cache.retain(block) }
    lastWrite += 1
    let isNamed = if case .folder = target { true } else { false }
    pending[lastWrite] = PendingWrite(
      sequence: id, cache: cache, blocks: blocks, segment: number, isNamed: isNamed)
    writer.begin(SegmentWrite(number: lastWrite, contents: contents, target: target))
  }

  /// What is written of blocks, which are held from now on.
  func contents(
    of blocks: [BlockID], of cache: SequenceCache, _ identity: SegmentIdentity,
    _ shape: SegmentShape
  ) throws(ComputeError) -> SegmentContents {
    guard let paged = cache.store.paged else {
      throw ComputeError(.lowerTier, "the store keeps no pages that could be written")
    }
    let format = cache.store.format
    let start = identity.index * shape.tokenCapacity
    let end = start + identity.tokens.count
    var pages = unsafe [UnsafeRawPointer?](repeating: nil, count: shape.pageCount)
    var sketches: [UInt8] = []
    for (index, block) in blocks.enumerated() {
      let contents: BlockContents
      do throws(ComputeError) {
        contents = try paged.hold(block)
      } catch {
        for held in blocks.prefix(index) { paged.letGo(held) }
        throw error
      }
      sketches += contents.sketches
      for page in 0..<shape.pagesPerBlock {
        // No query behind the segment's end reaches it.
        if let window = format.windows.isEmpty ? nil : format.windows[page / format.pagesPerLayer],
          start + (index + 1) * format.blockSize <= end - window
        {
          continue
        }
        unsafe pages[page * shape.blocksPerSegment + index] = unsafe contents.pages[page]
      }
    }
    return unsafe SegmentContents(identity: identity, pages: pages, sketches: sketches)
  }

  /// Takes back what has been written.
  private func settle(waiting: Bool) {
    for (number, result) in writer.take(waiting: waiting) {
      guard let write = pending.removeValue(forKey: number), let paged = write.cache.store.paged
      else { continue }
      for block in write.blocks { paged.letGo(block) }
      switch result {
      case .success(let segment):
        let tier = SegmentBlocks(segment)
        for (index, block) in write.blocks.enumerated() where paged.lowerPlace(of: block) == nil {
          paged.markStored(block, at: LowerPlace(tier: tier, block: index))
        }
      case .failure(let error): note(error, of: write)
      }
      for block in write.blocks { blocks.release(block, in: write.cache.store) }
    }
  }

  private func note(_ error: KVFileError, of write: PendingWrite) {
    if write.isNamed {
      if folderProblem == nil {
        notices.append("\(error.message). What is read from here on is not kept for later")
      }
      folderProblem = error
    } else {
      chains[write.sequence]?.problem = error
    }
    chains[write.sequence]?.forget(from: write.segment)
  }

  /// Waits until all that has been begun is written.
  func finish() { while writer.pendingCount > 0 { settle(waiting: true) } }

  /// Completes the file of a sequence with what does not fill a segment, and closes it.
  func finishFile(_ id: SequenceID) throws(ComputeError) -> ContextFile {
    finish()
    guard let chain = chains[id], let kind = chain.kind, let file = chain.file,
      let paged = chain.cache.store.paged
    else { throw ComputeError(.lowerTier, "the session is not being saved") }
    if let problem = chain.problem {
      throw ComputeError(.lowerTier, problem.message, cause: problem)
    }
    chains[id]?.file = nil
    let start = chain.digests.count * kind.shape.tokenCapacity
    do {
      if start < chain.cache.length {
        let blocks = Array(chain.cache.filledBlocks[(start / kind.shape.blockSize)...])
        let identity = identity(chain.digests.count, of: chain, kind)
        let contents = try self.contents(of: blocks, of: chain.cache, identity, kind.shape)
        defer { for block in blocks { paged.letGo(block) } }
        try file.append(contents)
      }
      let saved = try file.finish()
      chains[id]?.opened = saved
      return saved
    } catch let error as KVFileError {
      throw ComputeError(.lowerTier, error.message, cause: error)
    } catch let error as ComputeError {
      throw error
    } catch {
      throw ComputeError(.lowerTier, "\(error)", cause: error)
    }
  }

  /// What tiers have done so far.
  var traffic: Traffic {
    var sum = folder?.traffic ?? Traffic()
    for file in scratch.values {
      sum.bytesRead += file.traffic.bytesRead
      sum.bytesWritten += file.traffic.bytesWritten
    }
    for chain in chains.values {
      sum.bytesRead += chain.opened?.traffic.bytesRead ?? 0
      sum.bytesWritten += chain.file?.traffic.bytesWritten ?? 0
    }
    return sum
  }

  /// A sequence begins with a saved context.
  func open(_ file: ContextFile, as id: SequenceID) throws(ComputeError) {
    chains[id]?.opened = file
    let tokens: [Int32]
    do throws(KVFileError) {
      tokens = try file.tokens()
    } catch {
      throw ComputeError(.lowerTier, error.message, cause: error)
    }
    try restore((0..<file.segmentCount).map { file.segment($0) }, of: id, tokens[...])
  }

  // MARK: Room

  /// Makes room for blocks that are about to be written, by writing others below.
  /// - Throws: when nothing more can go there.
  func makeRoom(forBlocks count: Int, in store: any KVStore) throws(ComputeError) {
    guard let paged = store.paged else { return }
    settle(waiting: false)
    while !paged.hasRoom(forBlocks: count) {
      if writer.pendingCount > 0 {
        settle(waiting: true)
      } else if try !spill() {
        throw ComputeError(
          .outOfMemory(neededBytes: count * store.format.rowsByteCount * store.format.layerCount),
          "keys and values do not fit into the \(blocks.capacity / 1_000_000) MB that they may take, and "
            + "\(folderProblem?.message ?? "there is no folder for the rest (--kv-disk, --kv-dir)")"
        )
      }
    }
  }

  /// Writes a segment of any sequence that lies in memory only; false when there is none.
  private func spill() throws(ComputeError) -> Bool {
    guard let folder else { return false }
    for (id, chain) in chains {
      let cache = chain.cache
      let size = segmentLength(cache)
      var number = chain.spilledCount
      while (number + 1) * size <= cache.length, isStored(number, of: cache) { number += 1 }
      chains[id]?.spilledCount = number
      if let problem = chain.problem {
        throw ComputeError(.lowerTier, problem.message, cause: problem)
      }
      guard (number + 1) * size <= cache.length else { continue }
      let shape = shape(of: cache)
      let identity = SegmentIdentity(
        kind: Digest256(of: []), parent: Digest256(of: []), index: number,
        tokens: Array(cache.tokens[number * size..<(number + 1) * size]))
      try write(id, cache, identity, shape, to: .scratch(scratchFile(shape, in: folder)))
      chains[id]?.spilledCount = number + 1
      return true
    }
    return false
  }

  private func scratchFile(
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

  private func shape(of cache: SequenceCache) -> SegmentShape {
    let format = cache.store.format
    return SegmentShape(
      blockSize: format.blockSize, blocksPerSegment: segmentLength(cache) / format.blockSize,
      pagesPerBlock: format.pagesPerBlock, pageByteCount: format.pageByteCount,
      sketchByteCount: format.sketchByteCount)
  }
}
