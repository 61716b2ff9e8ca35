// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPKVFiles
internal import HiPKVStore
internal import HiPModels

extension SegmentTier {
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
    var found: [Lookup] = []
    for number in 0..<tokens.count / size {
      let first = tokens.startIndex + number * size
      let identity = SegmentIdentity(
        kind: kind.digest, parent: parent, index: number,
        tokens: Array(tokens[first..<first + size]))
      parent = identity.digest
      digests.append(identity.digest)
      guard number >= start else { continue }
      // A few that are damaged or gone are computed anew; what stands behind them is of use.
      found.append(find(identity, kind, chain.file))
      if found.count(where: { $0.segment == nil }) > Self.gapLimit { break }
    }
    while let last = found.last, last.segment == nil {
      if case .damaged(let error) = last { notices.append("\(error.message); computed anew") }
      found.removeLast()
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
      found, of: id, tokens.dropFirst(start * size).prefix(end - start * size))
    folder?.touch(found.compactMap(\.segment))
    chains[id]?.digests = Array(digests.prefix(start + found.count))
    return end
  }

  /// Segments that may be missing among those that are found.
  static let gapLimit = 8

  func find(
    _ identity: SegmentIdentity, _ kind: ContextKind, _ file: ContextFileWriter?
  ) -> Lookup {
    if let file, identity.index < file.segmentCount,
      file.digest(of: identity.index) == identity.digest,
      case .found(let segment) = file.segment(identity.index)
    {
      return .found(segment)
    }
    return folder?.find(kind, digest: identity.digest) ?? .absent
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
    unsafe SketchReading.read(stored.map(\.segment)) { index, result in
      let (number, segment) = stored[index]
      switch unsafe result {
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

  func noteBroken(_ number: Int, of id: SequenceID, _ error: KVFileError?) {
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
    guard folderProblem == nil, folder.writesPerDay > 0 else { return }
    // Where that fails the segment merely stays in memory.
    try? write(
      id, chain.cache, identity(number, of: chain, kind), kind.shape, to: .folder(folder, kind))
  }

  /// A sequence begins with a saved context.
  func open(
    _ file: ContextFile, as id: SequenceID, vocabulary: Int
  ) throws(ComputeError) {
    chains[id]?.opened = file
    let tokens: [Int32]
    do throws(KVFileError) {
      tokens = try file.tokens()
    } catch {
      throw ComputeError(.lowerTier, error.message, cause: error)
    }
    guard file.tailCount == 0, tokens.allSatisfy({ (0..<Int32(vocabulary)).contains($0) }) else {
      throw ComputeError(
        .lowerTier, "\(file.path): holds tokens that the model does not have; save it again")
    }
    try restore((0..<file.segmentCount).map { file.segment($0) }, of: id, tokens[...])
  }
}
