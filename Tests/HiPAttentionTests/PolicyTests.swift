// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import Testing

@Suite struct PolicyTests {
  /// A file with a whole policy.
  private func decode(_ json: String) throws -> AttentionChoice.Document {
    try file(#"{"version": 1, "experimental": "# + json + "}")
  }

  private func file(_ json: String) throws -> AttentionChoice.Document {
    try JSONDecoder().decode(AttentionChoice.Document.self, from: Data(json.utf8))
  }

  private func problem(_ json: String) -> String? {
    do {
      _ = try decode(json)
      return nil
    } catch let error as PolicyError {
      return error.description
    } catch {
      return "unexpected \(error)"
    }
  }

  @Test func sumsOfCountsDoNotOverflow() {
    #expect(throws: PolicyError.self) { try StreamingWindow(sink: 0, window: .max) }
    #expect(throws: PolicyError.self) { try StreamingWindow(sink: .max, window: 1) }
    #expect(throws: PolicyError.self) { try HeavyHitters(recent: .max, heavy: 0) }
    #expect(throws: PolicyError.self) { try HeavyHitters(recent: 1, heavy: .max) }
  }

  @Test(arguments: AttentionChoice.presets + [.gpu])
  func everyPresetSurvivesItsJSONForm(_ preset: AttentionChoice) throws {
    let data = try JSONEncoder().encode(AttentionChoice.Document(preset))
    let document = try JSONDecoder().decode(AttentionChoice.Document.self, from: data)
    // Decoding checks what the presets' own initialiser does not.
    #expect(document.policy == preset.policy)
    #expect(document.dense == preset.dense)
  }

  @Test func aPresetIsChangedByItsKnobs() throws {
    let changed = try file(
      #"{"version": 1, "preset": "auto", "sink": 128, "window": 512, "keep": 1024}"#)
    guard case .hierarchical(let pruning) = changed.policy else {
      Issue.record("not hierarchical")
      return
    }
    #expect(changed.dense == .withinTrainedLength)
    #expect(pruning.sink == 128 && pruning.window == 512 && pruning.budget == 128 + 512 + 1024)
    #expect(pruning.fine.budget == pruning.budget && pruning.focus?.keep == 1024)
    let same = try file(#"{"version": 1, "preset": "infinitehip-3k"}"#)
    #expect(same.policy == .hierarchical(.paper3K) && same.dense == .nowhere)
    let streaming = try file(#"{"version": 1, "preset": "streaming", "window": 9}"#)
    #expect(streaming.policy == .streaming(try StreamingWindow(sink: 256, window: 9)))
    let dense = try file(#"{"version": 1, "preset": "h2o", "dense": "within-trained-length"}"#)
    #expect(dense.dense == .withinTrainedLength)
  }

  @Test(arguments: [
    (#"{"preset": "auto"}"#, "needs the key \"version\""),
    (#"{"version": 2, "preset": "auto"}"#, "knows version 1"),
    (#"{"version": 1}"#, "needs the key \"preset\""),
    (#"{"version": 1, "preset": "best"}"#, "presets are auto, dense"),
    (#"{"version": 1, "preset": "auto", "window": 1}"#, "Make the window at least 256"),
    (#"{"version": 1, "preset": "auto", "keep": 100}"#, "multiple of"),
    (#"{"version": 1, "preset": "streaming", "keep": 64}"#, "has no \"keep\""),
    (#"{"version": 1, "preset": "dense", "sink": 1}"#, "has no \"sink\""),
    (#"{"version": 1, "preset": "auto", "stages": []}"#, "unknown key \"stages\""),
    (#"{"version": 1, "preset": "auto", "experimental": {}}"#, "unknown key \"preset\""),
  ])
  func mistakesInAFileAreNamed(_ json: String, _ words: String) {
    #expect { try file(json) } throws: { "\($0)".contains(words) }
  }

  @Test func defaultsAreThePublishedRules() throws {
    let json = """
      {"policy": "hierarchical", "sink": 256, "window": 1024,
       "stages": [{"chunk": 256, "keep": 32768}, {"chunk": 8, "keep": 2048}]}
      """
    guard case .hierarchical(let pruning) = try decode(json).policy else {
      Issue.record("not hierarchical")
      return
    }
    #expect(pruning.sharing == .allHeads)
    #expect(pruning.ranking == .maximum)
    #expect(pruning.pruningPositions == .relative)
    #expect(pruning.attentionPositions == .streaming)
    #expect(pruning.queryBlock == 64)
    #expect(pruning.stages.allSatisfy { $0.estimate == .halving && $0.refreshInterval == 1 })
  }

  @Test(arguments: [
    (#"{"policy": "dense", "sink": 1}"#, "unknown key \"sink\"; allowed are policy, stretch"),
    (#"{"policy": "sparse"}"#, "allowed are \"dense\", \"streaming\", \"h2o\""),
    (#"{}"#, "needs the key \"policy\""),
    (#"[1]"#, "must be a JSON object"),
    (#"{"policy": "streaming", "sink": 1}"#, "needs the key \"window\""),
    (#"{"policy": "streaming", "sink": -1, "window": 4}"#, "0 or more"),
    (#"{"policy": "streaming", "sink": 1.5, "window": 4}"#, "a whole number"),
    (#"{"policy": "streaming", "sink": 99999999999, "window": 4}"#, "out of range"),
  ])
  func mistakesAreNamed(_ json: String, _ words: String) {
    let problem = problem(json)
    #expect(problem?.contains(words) == true, "\(problem ?? "accepted")")
  }

  @Test(arguments: [
    (#""stages": [{"chunk": 64, "keep": 100}]"#, "multiple of \"chunk\""),
    (#""stages": [{"chunk": 64, "keep": 128}, {"chunk": 24, "keep": 48}]"#, "does not divide"),
    (#""stages": [{"chunk": 64, "keep": 128}, {"chunk": 8, "keep": 256}]"#, "more than the 128"),
    (#""stages": [{"chunk": 2048, "keep": 4096}]"#, "shorter than the first stage's chunk"),
    (#""stages": [{"chunk": 8, "keep": 8, "queryStride": 3}]"#, "divide the queries"),
    (#""stages": [{"chunk": 8, "keep": 8, "refresh": 0}]"#, "1 or more"),
    (#""stages": [{"chunk": 8, "keep": 8, "queryBlocks": 3}]"#, "allowed are 1, 2, 4 and 8"),
    (
      #""stages": [{"chunk": 8, "keep": 8}], "fineStages": [{"chunk": 8, "keep": 8, "queryBlocks": 2}]"#,
      "one block of queries"
    ),
    (
      #""stages": [{"chunk": 8, "keep": 8}], "focus": {"passage": 8, "keep": 64, "answer": 1}"#,
      "\"ranking\": \"share\" only"
    ),
    (#""stages": [{"chunk": 8, "keep": 8, "refresh": 65}]"#, "at most 64"),
    (#""stages": [{"chunk": 8, "keep": 8, "sharedFrom": 9}]"#, "goes with 2, 4 or 8"),
    (
      #""stages": [{"chunk": 8, "keep": 8}, {"chunk": 8, "keep": 8, "queryBlocks": 2}]"#,
      "the first stage"
    ),
    (#""stages": [{"chunk": 8, "keep": 8, "size": 0}]"#, "allowed are chunk, keep"),
    (#""stages": [{"chunk": 8, "keep": 8}], "ranking": "share""#, "no softmax mass"),
    (
      #""stages": [{"chunk": 8, "keep": 8, "estimate": "means"}], "ranking": "share", "pruningPositions": "absolute""#,
      "one distance"
    ),
    (
      #""stages": [{"chunk": 24, "keep": 24, "estimate": "means"}], "ranking": "share""#,
      "hold whole means of 4 keys"
    ),
    (#""stages": [{"chunk": 8, "keep": 8, "estimate": "means"}]"#, "add up to shares"),
    (
      #""stages": [{"chunk": 8, "keep": 64, "estimate": "exact"}, {"chunk": 8, "keep": 8, "estimate": "means"}], "ranking": "share""#,
      "the first stage"
    ),
    (#""stages": [{"chunk": 8, "keep": 8, "keepShare": 2, "keepLeast": 8}]"#, "at most 1"),
    (#""stages": [{"chunk": 8, "keep": 8, "keepShare": 0.5, "keepLeast": 9}]"#, #"0 to "keep""#),
    (#""stages": [{"chunk": 8, "keep": 8, "keepShare": 0.5}]"#, #"needs the key "keepLeast""#),
    (#""stages": [{"chunk": 8, "keep": 8}], "queryBlock": 65"#, "allowed are 16"),
    (#""stages": [{"chunk": 8, "keep": 8}], "layers": [{"layers": [0], "keep": 9}]"#, "multiples"),
    (#""stages": [{"chunk": 8, "keep": 8}], "layers": [{"keep": 8}]"#, "needs the key \"layers\""),
    (#""stages": 3"#, "list of objects"),
    (#""stages": [{"chunk": 8, "keep": 8}], "focus": 1"#, "must be a JSON object"),
    (
      #""stages": [{"chunk": 8, "keep": 8, "estimate": "means"}], "ranking": "share", "pruningPositions": "infllm", "focus": {"passage": 8, "keep": 8, "answer": 1}"#,
      "end with \"exact\" or \"4-bit\""
    ),
    (
      #""stages": [], "ranking": "share", "focus": {"passage": 8, "keep": 8, "answer": 1}"#,
      "there are no \"stages\""
    ),
    (#""stages": [{"chunk": 8, "keep": 8}], "focus": {}"#, "needs the key \"passage\""),
  ])
  func impossibleCombinationsSayWhatIsAllowed(_ fields: String, _ words: String) {
    let json = #"{"policy": "hierarchical", "sink": 64, "window": 1024, "# + fields + "}"
    let problem = problem(json)
    #expect(problem?.contains(words) == true, "\(problem ?? "accepted")")
  }

  @Test func exceptionsApplyToTheirLayersOnly() throws {
    let pruning = HierarchicalPruning.paper3K
    #expect(pruning.applied(toLayer: 0, of: 8).stages.last?.keep == 4096)
    #expect(pruning.applied(toLayer: 2, of: 8).pruningPositions == .chunkIndexed)
    #expect(pruning.applied(toLayer: 3, of: 8).stages.last?.keep == 2048)
    let last = try HierarchicalPruning(
      reach: StreamingWindow(sink: 0, window: 64), stages: [PruningStage(chunkSize: 8, keep: 64)],
      exceptions: [LayerException(layers: [-1], .selection(keep: 8))])
    #expect(last.applied(toLayer: 7, of: 8).stages[0].keep == 8)
    #expect(last.applied(toLayer: 6, of: 8).stages[0].keep == 64)
  }

  /// Where paper and published implementation differ (the paper's is the preset's value).
  @Test func theAmbiguitiesAreOptions() throws {
    // 32 keys in one direction, stronger at some places; one query along it.
    let size = 16
    var strengths = [Float](repeating: 0, count: 96)
    // The chunk 32 ..< 64: a strong key in the middle of its left half, a weaker one where its right
    // half begins.
    strengths[40] = 5
    strengths[48] = 3
    var keys = [Float](repeating: 0, count: strengths.count * size)
    for (index, strength) in strengths.enumerated() { keys[index * size] = strength }
    var query = [Float](repeating: 0, count: size)
    query[0] = 4
    let input = ReferenceAttention(
      queries: query, keys: keys, values: keys,
      shape: AttentionShape(heads: 1, kvHeads: 1, headSize: size), rotary: nil)
    func score(_ halving: HalvingRule) throws -> Double {
      let pruning = try HierarchicalPruning(
        reach: StreamingWindow(sink: 0, window: 32), queryBlock: 16,
        stages: [PruningStage(chunkSize: 32, keep: 32)], scoring: .init(halving: halving))
      let trace = ReferenceSelection(input).select(rows: 0..<1, pruning).trace
      return trace[0].scores[0][1]
    }
    // Midpoints see the strong key at once; first keys go right, to the weaker one.
    #expect(try score(.implementation) == 5)
    #expect(try score(HalvingRule(representative: .first, score: .path)) == 3)
    // First keys end at the key that began the right half.
    #expect(try score(.paper) == 3)
    #expect(HierarchicalPruning.paper3K.halving == .paper)
    #expect(HierarchicalPruning.paper3K.stages.allSatisfy { $0.queryStride == 1 })
    // Flash: the appendix says 24, table 4 fits 32; special layers: 0 to 2, or any others.
    #expect(HierarchicalPruning.paper3KFlash.stages.map(\.refreshInterval) == [96, 24, 8])
    let json = """
      {"policy": "hierarchical", "sink": 256, "window": 1024, "representative": "first",
       "chunkScore": "final", "stages": [
        {"chunk": 256, "keep": 32768, "refresh": 96}, {"chunk": 32, "keep": 8192, "refresh": 32},
        {"chunk": 8, "keep": 2048, "refresh": 8}],
       "layers": [{"layers": [0, 1, 2, 3, -1], "keep": 4096, "pruningPositions": "chunk-indexed",
        "attentionPositions": "infllm"}]}
      """
    let document = try decode(json)
    guard case .hierarchical(let pruning) = document.policy else {
      Issue.record("another policy")
      return
    }
    #expect(pruning.halving == .paper)
    #expect(pruning.applied(toLayer: 31, of: 32).stages[2].keep == 4096)
    #expect(pruning.applied(toLayer: 31, of: 32).attentionPositions == .infllm)
  }

  @Test(arguments: [
    (Focus(passage: 60, keep: 4096, answer: 64), "multiples of the last stage's chunk"),
    (Focus(passage: 64, keep: 0, answer: 64), "a positive multiple of \"passage\""),
    (Focus(passage: 64, keep: 4100, answer: 64), "a positive multiple of \"passage\""),
    (Focus(passage: 64, keep: 4096, answer: 1153), "1 to 1152"),
    (Focus(passage: 64, keep: 4096, answer: 0), "1 to 1152"),
  ])
  func passagesMustFitTheStages(_ focus: Focus, _ words: String) {
    do {
      _ = try HierarchicalPruning.infiniteHiP.focusing(focus)
      Issue.record("accepted")
    } catch {
      #expect(error.description.contains(words), "\(error)")
    }
  }

  /// Stages between the first and the last leave as many as the last keeps, in layers of their own, too.
  @Test(arguments: [64, 2048, 8256, 16384]) func anyNumberOfKeysMayBeKept(_ keep: Int) throws {
    let policy = try HierarchicalPruning.infiniteHiP.changed(window: 256, keep: keep)
    #expect(policy.fine.stages.map(\.keep) == [32768, max(8192, keep), keep])
    #expect(policy.focus?.keep == keep && policy.focus?.answer == 64)
    let layers = try HierarchicalPruning.infiniteHiP.changed(
      exceptions: [LayerException(layers: [1], .selection(keep: keep))])
    #expect(
      layers.applied(toLayer: 1, of: 8).fine.stages.map(\.keep) == [32768, max(8192, keep), keep])
    // A chunk of 32 holds no 8,200 keys.
    let paper = try HierarchicalPruning.paper3K.changed(keep: 8200)
    #expect(paper.stages.map(\.keep) == [32768, 8224, 8200])
    var long = HierarchicalPruning.infiniteHiP
    long = try long.focusing(Focus(passage: 64, keep: 2048, answer: 512)).changed(window: 256)
    #expect(long.focus?.answer == 256)
  }

  @Test func answersLookWhereTheirQuestionHasDrawnOnMost() throws {
    let focus = Focus(passage: 16, keep: 64, answer: 1)
    var votes = PassageVotes(focus, sink: 64)
    let places = [9, 3, 0].map { Int32(64 + 16 * $0) }
    votes.count([places[1], places[0], places[0] + 8], shares: [0.1, 0.2, 0.2])
    // What many selections draw on a little does not outweigh what one draws on much.
    for _ in 0..<10 { votes.count([places[2], places[1]], shares: [0.1, 0.3]) }
    // Each with the one behind it, as long as there is room.
    #expect(votes.best(keep: 64, end: 1000).starts == [3, 4, 9, 10].map { Int32(64 + 16 * $0) })
    #expect(votes.best(keep: 48, end: 1000).starts == [3, 9, 10].map { Int32(64 + 16 * $0) })
    #expect(votes.best(keep: 160, end: 1000).starts.count == 6)
    // Whole passages only.
    #expect(votes.best(keep: 64, end: 64 + 16 * 10 + 15).starts.last == Int32(64 + 16 * 9))
    #expect(votes.best(keep: 64, end: 10).starts == [])
    #expect(votes.best(keep: 64, end: 1000).chunks(of: 8).count == 8)
    // No focus where it would leave everything, nor where everything is selected.
    for keep in [1024, 4096] {
      let pruning = try HierarchicalPruning.infiniteHiP.focusing(
        Focus(passage: 64, keep: keep, answer: 64))
      let enough = max(keep, 2048) + pruning.sink + pruning.fine.pruningWindow
      #expect(pruning.focus(at: enough) == nil)
      #expect(pruning.focus(at: enough + 1) == pruning.focus)
    }
    // A question selects by the fine stages.
    let stage = PruningStage(chunkSize: 8, keep: 256, estimate: .exact)
    var fine = stage
    fine.keep = 512
    let pruning = try HierarchicalPruning(
      reach: StreamingWindow(sink: 64, window: 128), stages: [stage], fineStages: [fine],
      scoring: .init(sharing: .group, ranking: .share, positions: .infllm)
    ).focusing(Focus(passage: 16, keep: 128, answer: 1))
    #expect(pruning.focus(at: 512 + 64 + pruning.pruningWindow) == nil)
    #expect(pruning.focus(at: 513 + 64 + pruning.pruningWindow) == pruning.focus)
  }

  @Test func fourBitsKeepWithinHalfAStep() {
    let key: [Float] = (0..<48).map { Float(($0 * 37) % 48) / 7 - 3 }
    let rounded = FourBitKey(key).values
    let step = ((key.max() ?? 0) - (key.min() ?? 0)) / 15
    for (value, kept) in zip(key, rounded) { #expect(abs(value - kept) <= step * 0.56) }
    #expect(FourBitKey([Float](repeating: 2, count: 16)).values == [Float](repeating: 2, count: 16))
  }

  @Test func squeezedPositionsAreThoseOfTheSpecification() {
    let queries = 1000..<1064
    // Within the trained length nothing moves.
    #expect(PositionScheme.dynamic.position(ofKey: 5, queries: queries, trainedLength: 2000) == 5)
    // Groups of 16 behind 8 neighbours; floor((i - p_min) / 16) + p_min.
    let grouped = PositionScheme.selfExtend
    #expect(grouped.position(ofKey: 1056, queries: queries, trainedLength: 128) == 1056)
    #expect(grouped.position(ofKey: 999, queries: queries, trainedLength: 128) == 999)
    #expect(grouped.position(ofKey: 983, queries: queries, trainedLength: 128) == 998)
    #expect(grouped.position(ofKey: 0, queries: queries, trainedLength: 128) == 937)
    // w = 32: (0 - 968) * 96 / 968 + 968 = 872, but not before 1063 - 128.
    let dynamic = PositionScheme.dynamic
    #expect(dynamic.position(ofKey: 0, queries: queries, trainedLength: 128) == 935)
    #expect(dynamic.position(ofKey: 900, queries: queries, trainedLength: 128) == 961)
  }

  @Test func spreadKeysStandInProportionAndApart() throws {
    let pruning = try HierarchicalPruning(
      reach: StreamingWindow(sink: 16, window: 32), queryBlock: 16,
      stages: [PruningStage(chunkSize: 8, keep: 32, estimate: .exact)],
      attentionPositions: .spread)
    func places(_ blocks: [Int], from start: Int, _ length: Int) -> [Int] {
      pruning.spreadPositions(blocks: blocks, queriesFrom: start, trainedLength: length)
    }
    // Room for 160 - 32 - 16 = 112 positions, of which no key is further than the model knows; 100 of them
    // are enough for the true ones.
    #expect(places([16, 40, 88], from: 132, 160) == [0, 16, 40, 88])
    // 1,032 - 32 = 1,000 in 112, before position 1,000: 888 + start * 112 / 1,000, the sink's 16 keys and blocks
    // of 8 apart.
    #expect(places([104, 112, 500, 992], from: 1032, 160) == [888, 904, 912, 944, 992])
    // What is pushed over the border moves back.
    #expect(places([976, 984, 992], from: 1032, 160) == [888, 976, 984, 992])
    // Longer together than there is room: side by side.
    #expect(places([104, 112, 500, 992], from: 1032, 64) == [952, 968, 976, 984, 992])
    // What some queries see through the window keeps its place, and so does what lies before it.
    #expect(places([992, 1000, 1008], from: 1032, 160) == [888, 992, 1000, 1008])
    #expect(places([40, 104, 112], from: 132, 200) == [0, 40, 104, 112])
    // Where the trained length is not known, all stand side by side.
    #expect(places([104, 112, 500, 992], from: 1032, .max) == [952, 968, 976, 984, 992])
    // No far keys at all.
    #expect(places([], from: 8, 160) == [0])
    #expect(throws: PolicyError.self) {
      try HierarchicalPruning(
        reach: StreamingWindow(sink: 16, window: 32), queryBlock: 16,
        stages: [PruningStage(chunkSize: 8, keep: 32, estimate: .exact)],
        scoring: .init(positions: .spread))
    }
  }

  @Test func automaticIsDenseWithinTheTrainedLength() {
    let automatic = AttentionChoice.automatic
    #expect(automatic.nameOfPolicy(contextLength: 8192, trainedLength: 8192) == "dense")
    #expect(automatic.nameOfPolicy(contextLength: 8193, trainedLength: 8192) == "infinitehip")
  }

  @Test func stagesAreRefreshedByTheirIntervals() {
    let schedule = SelectionSchedule(.paper3K)
    let due = (0..<17).map { schedule.firstDueStage(step: $0) }
    #expect(due == [0, nil, nil, nil, 2, nil, nil, nil, 1, nil, nil, nil, 2, nil, nil, nil, 0])
  }

  @Test(arguments: AttentionChoice.presets + [.gpu])
  func budgetsShrinkUntilTheyFit(_ choice: AttentionChoice) throws {
    guard let reach = choice.reach else {
      #expect(choice.fitted(to: 100) == choice)
      return
    }
    #expect(choice.fitted(to: reach) == choice)
    for length in [reach - 1, 2048] where length < reach {
      let fitted = try #require(choice.fitted(to: length), "\(choice.name) to \(length)")
      let own = try #require(fitted.reach)
      #expect(own <= length && own > length / 4 && fitted.dense == choice.dense)
    }
    // A chunk or a block of queries has a size below which nothing goes.
    if case .hierarchical = choice.policy { #expect(choice.fitted(to: 64) == nil) }
  }

  @Test func whatSelectsNothingShrinksAsFarAsItsBlocks() throws {
    let pruning = try HierarchicalPruning(
      reach: StreamingWindow(sink: 256, window: 1024), stages: [])
    let choice = AttentionChoice(name: "none", policy: .hierarchical(pruning))
    #expect(try #require(choice.fitted(to: 100)?.reach) <= 100)
    #expect(choice.fitted(to: 64) == nil)
  }
}
