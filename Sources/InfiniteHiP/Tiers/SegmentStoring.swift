// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPKVFiles
internal import HiPKVStore
internal import HiPModels

extension SegmentTier {
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
      if chain.file == nil, let folder, folder.writesPerDay > 0, folderProblem == nil,
        !isStored(number, of: chain.cache)
      {
        try write(id, chain.cache, identity, kind.shape, to: .folder(folder, kind))
      }
      chain.digests.append(identity.digest)
      chains[id] = chain
    }
    while let file = chain.file, chain.fileCount < chain.digests.count {
      // What the folder has comes all at once: memory holds some of it at a time.
      while writer.pendingCount >= Self.pendingLimit { settle(waiting: true) }
      if let problem = chains[id]?.problem {
        throw ComputeError(.lowerTier, problem.message, cause: problem)
      }
      try write(
        id, chain.cache, identity(chain.fileCount, of: chain, kind), kind.shape, to: .file(file))
      chain.fileCount += 1
      chains[id]?.fileCount = chain.fileCount
    }
  }

  /// Segments of a saved context that are on their way at once.
  static let pendingLimit = 4

  func identity(
    _ number: Int, of chain: SegmentChain, _ kind: ContextKind
  ) -> SegmentIdentity {
    let size = kind.shape.tokenCapacity
    return SegmentIdentity(
      kind: kind.digest, parent: number > 0 ? chain.digests[number - 1] : kind.digest,
      index: number,
      tokens: Array(
        chain.cache.tokens[number * size..<min((number + 1) * size, chain.cache.length)]))
  }

  func places(_ number: Int, of cache: SequenceCache) -> Range<Int> {
    let count = segmentLength(cache) / cache.store.format.blockSize
    return number * count..<(number + 1) * count
  }

  func isStored(_ number: Int, of cache: SequenceCache) -> Bool {
    guard let paged = cache.store.paged else { return true }
    return cache.fullBlocks[places(number, of: cache)].allSatisfy {
      paged.lowerPlace(of: $0) != nil
    }
  }

  /// Begins to write a segment; its blocks stay in memory until that is done.
  func write(
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
  func settle(waiting: Bool) {
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

  func note(_ error: KVFileError, of write: PendingWrite) {
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
      finishedTraffic.bytesRead += file.traffic.bytesRead
      finishedTraffic.bytesWritten += file.traffic.bytesWritten
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
}
