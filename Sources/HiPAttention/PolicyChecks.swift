// SPDX-License-Identifier: Apache-2.0

/// Throws unless a number of keys is one that sums of a few still hold.
func checkCount(_ count: Int, _ name: String, atLeast least: Int) throws(PolicyError) {
  guard count >= least else {
    throw PolicyError("\"\(name)\" is \(count); it must be \(least) or more")
  }
  guard count <= 1_000_000_000 else {
    throw PolicyError("\"\(name)\" is \(count); it must be a billion or less")
  }
}

extension HierarchicalPruning {
  /// Throws unless the parts fit together.
  func check() throws(PolicyError) {
    guard [16, 32, 64, 128].contains(queryBlock) else {
      throw PolicyError("\"queryBlock\" is \(queryBlock); allowed are 16, 32, 64 and 128")
    }
    try check(stages, "stage")
    if let fineStages {
      guard fineStages.last?.chunkSize == stages.last?.chunkSize, !fineStages.isEmpty else {
        throw PolicyError(
          "the last of \"fineStages\" must have the chunk of the last stage, "
            + "\(stages.last?.chunkSize ?? 0)")
      }
      try check(fineStages, "fine stage")
      guard fineStages[0].queryBlocks == 1 else {
        throw PolicyError(
          "\"fineStages\" are those of one block of queries; leave \"queryBlocks\" out there")
      }
    }
    guard let last = stages.last else {
      guard focus == nil else {
        throw PolicyError("\"focus\" restricts what stages select; there are no \"stages\"")
      }
      return
    }
    guard window >= leastWindow else {
      throw PolicyError(
        "\"window\" is \(window), shorter than the first stage's chunk or its blocks of queries; keys "
          + "between candidates and window would be lost. Make the window at least \(leastWindow)")
    }
    for policy in [self, fine] {
      // Candidates reach so far into the window.
      let (interval, longest) = (policy.stages.first?.refreshInterval ?? 1, policy.overlap)
      guard interval <= longest else {
        throw PolicyError(
          "the first stage's \"refresh\" is \(interval): keys that leave the window "
            + "meanwhile would be lost. Make it at most \(longest)")
      }
    }
    guard sink % last.chunkSize == 0 else {
      throw PolicyError(
        "\"sink\" is \(sink); it must be a multiple of the last stage's chunk, \(last.chunkSize)")
    }
    for exception in exceptions {
      if let keep = exception.keep {
        let limits = [stages, fineStages ?? []].compactMap { $0.dropLast().first?.keep }
        let limit = limits.min() ?? Int.max
        guard keep > 0, keep % last.chunkSize == 0, keep <= limit else {
          throw PolicyError(
            "an exception in \"layers\" keeps \(keep) keys; allowed are multiples of the last "
              + "stage's chunk, \(last.chunkSize), up to what the first stage keeps")
        }
      }
      if let positions = exception.pruningPositions { try check(positions) }
    }
    try check(pruningPositions)
    try checkTree()
    if let focus { try check(focus) }
  }

  private func check(_ focus: Focus) throws(PolicyError) {
    guard ranking == .share else {
      throw PolicyError(
        "\"focus\" counts shares of softmax mass: it goes with \"ranking\": \"share\" only")
    }
    for stage in [stages.last, fineStages?.last].compactMap({ $0 }) {
      guard stage.estimate != .means else {
        throw PolicyError(
          "\"focus\": the last stage scores the keys of passages, and \"means\" are kept of a whole text; end "
            + "with \"exact\" or \"4-bit\"")
      }
    }
    guard (1...4096).contains(focus.passage), focus.passage % blockSize == 0 else {
      throw PolicyError(
        "\"focus\": \"passage\" is \(focus.passage); allowed are multiples of the last stage's chunk, "
          + "\(blockSize), up to 4096")
    }
    guard focus.keep >= focus.passage, focus.keep % focus.passage == 0 else {
      throw PolicyError(
        "\"focus\": \"keep\" is \(focus.keep); it must be a positive multiple of \"passage\", \(focus.passage)"
      )
    }
    guard (1...window).contains(focus.answer) else {
      throw PolicyError(
        "\"focus\": \"answer\" is \(focus.answer); it must be 1 to \(window), the window: an answer that attends to "
          + "passages sees no more of its own beginning")
    }
  }

  private func check(_ stages: [PruningStage], _ kind: String) throws(PolicyError) {
    for (index, stage) in stages.enumerated() {
      try check(
        stage, "\(kind) \(index + 1)", after: index > 0 ? stages[index - 1] : nil)
    }
  }

  private func check(
    _ stage: PruningStage, _ name: String, after before: PruningStage?
  ) throws(PolicyError) {
    guard (1...4096).contains(stage.chunkSize) else {
      throw PolicyError("\(name): \"chunk\" is \(stage.chunkSize); allowed are 1 to 4096")
    }
    guard stage.keep >= stage.chunkSize, stage.keep % stage.chunkSize == 0 else {
      throw PolicyError(
        "\(name): \"keep\" is \(stage.keep); it must be a positive multiple of \"chunk\", "
          + "\(stage.chunkSize)")
    }
    if let proportion = stage.proportion {
      guard proportion.share > 0, proportion.share <= 1 else {
        throw PolicyError(
          "\(name): \"keepShare\" is \(proportion.share); it must be above 0, at most 1")
      }
      guard (0...stage.keep).contains(proportion.least) else {
        throw PolicyError(
          "\(name): \"keepLeast\" is \(proportion.least); it must be 0 to \"keep\", \(stage.keep)")
      }
      guard stage.estimate != .tree else {
        throw PolicyError("\(name): \"tree\" keeps \"keep\" keys; leave \"keepShare\" out")
      }
    }
    guard stage.refreshInterval >= 1 else {
      throw PolicyError("\(name): \"refresh\" is \(stage.refreshInterval); it must be 1 or more")
    }
    guard [1, 2, 4, 8].contains(stage.queryBlocks), before == nil || stage.queryBlocks == 1 else {
      throw PolicyError(
        "\(name): \"queryBlocks\" is \(stage.queryBlocks); allowed are 1, 2, 4 and 8 in the first stage "
          + "and 1 in the others")
    }
    let queries = queryBlock * stage.queryBlocks
    guard stage.queryStride >= 1, queries % stage.queryStride == 0 else {
      throw PolicyError(
        "\(name): \"queryStride\" is \(stage.queryStride); it must divide the queries that share the stage, "
          + "\(queries)")
    }
    guard stage.sharedFrom >= 0, stage.sharedFrom == 0 || stage.queryBlocks > 1 else {
      throw PolicyError(
        "\(name): \"sharedFrom\" is \(stage.sharedFrom); it is the position, 0 or more, from which on "
          + "\"queryBlocks\" share the stage, and goes with 2, 4 or 8 of them")
    }
    if stage.estimate == .halving && ranking == .share {
      throw PolicyError(
        "\(name): \"halving\" finds one key per chunk and has no softmax mass to share; with "
          + "\"ranking\": \"share\" use \"means\", \"4-bit\" or \"exact\"")
    }
    if stage.estimate == .means {
      guard [4, 8, 16, 32, 64].contains(stage.keysPerMean) else {
        throw PolicyError(
          "\(name): \"keysPerMean\" is \(stage.keysPerMean); allowed are 4, 8, 16, 32 and 64")
      }
      guard stage.chunkSize % stage.keysPerMean == 0, 64 % stage.chunkSize == 0, sink % 64 == 0,
        ranking == .share
      else {
        throw PolicyError(
          "\(name): \"means\" are kept for groups of 64 keys and add up to shares: \"chunk\" "
            + "(\(stage.chunkSize)) must hold whole means of \(stage.keysPerMean) keys and divide 64, the sink "
            + "(\(sink)) be a multiple of 64, \"ranking\" \"share\"")
      }
    }
    if stage.estimate == .fourBit {
      guard stage.chunkSize % 8 == 0, sink % 8 == 0 else {
        throw PolicyError(
          "\(name): keys in \"4-bit\" are kept in groups of 8: \"chunk\" (\(stage.chunkSize)) and "
            + "the sink (\(sink)) must be multiples of 8")
      }
    }
    guard let before else { return }
    guard stage.estimate != .means else {
      throw PolicyError("\(name): \"means\" scan all chunks: they go with the first stage")
    }
    guard before.chunkSize % stage.chunkSize == 0 else {
      throw PolicyError(
        "\(name): its chunk of \(stage.chunkSize) does not divide the chunk before, "
          + "\(before.chunkSize)")
    }
    guard stage.keep <= before.keep else {
      throw PolicyError(
        "\(name) keeps \(stage.keep) keys, more than the \(before.keep) that reach it")
    }
  }

  /// The tree search goes through branches, not through a list of chunks.
  private func checkTree() throws(PolicyError) {
    let all = stages + (fineStages ?? [])
    guard let tree = all.first(where: { $0.estimate == .tree }) else { return }
    guard all == [tree] else {
      throw PolicyError("\"tree\" searches all keys by itself: it must be the only stage")
    }
    guard tree.queryBlocks == 1 else {
      throw PolicyError("\"tree\" searches for every block of queries; leave \"queryBlocks\" out")
    }
    guard ranking == .maximum, sharing != .allHeads else {
      throw PolicyError(
        "\"tree\" compares single scores and keys of one head: it goes with \"ranking\": "
          + "\"maximum\" and \"sharing\": \"head\" or \"group\"")
    }
  }

  private func check(_ positions: PositionScheme) throws(PolicyError) {
    guard positions != .spread else {
      throw PolicyError(
        "\"spread\" places keys that are selected: it goes with \"attentionPositions\", not with "
          + "\"pruningPositions\"")
    }
    if stages.contains(where: { $0.estimate == .tree }),
      positions == .chunkIndexed || positions == .streaming
    {
      throw PolicyError(
        "\"tree\" has no list of chunks that \"\(positions.rawValue)\" could count; take another of "
          + "\"pruningPositions\"")
    }
    let sketched = (stages + (fineStages ?? [])).first {
      $0.estimate == .means || $0.estimate == .fourBit
    }
    guard let sketched else { return }
    guard positions == .relative || positions == .infllm else {
      throw PolicyError(
        "\"\(sketched.estimate.rawValue)\" describe keys as seen from one distance: \"pruningPositions\" may be "
          + "\"relative\" or \"infllm\", not \"\(positions.rawValue)\"")
    }
  }
}
