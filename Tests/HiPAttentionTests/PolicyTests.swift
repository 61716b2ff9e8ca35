// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import Testing

@Suite struct PolicyTests {
  private func decode(_ json: String) throws -> AttentionChoice.Document {
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

  @Test(arguments: AttentionChoice.presets)
  func everyPresetSurvivesItsJSONForm(_ preset: AttentionChoice) throws {
    let data = try JSONEncoder().encode(AttentionChoice.Document(preset))
    let document = try JSONDecoder().decode(AttentionChoice.Document.self, from: data)
    // Decoding checks what the presets' own initialiser does not.
    #expect(document.policy == preset.policy)
    #expect(document.dense == preset.dense)
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
    (#"{"policy": "dense", "sink": 1}"#, "unknown key \"sink\"; allowed are policy, dense"),
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
    (#""stages": [{"chunk": 8, "keep": 8, "queryStride": 3}]"#, "divide the query block"),
    (#""stages": [{"chunk": 8, "keep": 8, "refresh": 0}]"#, "1 or more"),
    (#""stages": [{"chunk": 8, "keep": 8, "size": 0}]"#, "allowed are chunk, keep"),
    (#""stages": [{"chunk": 8, "keep": 8}], "ranking": "share""#, "no softmax mass"),
    (
      #""stages": [{"chunk": 8, "keep": 8, "estimate": "moments"}], "pruningPositions": "absolute""#,
      "one distance"
    ),
    (#""stages": [{"chunk": 24, "keep": 24, "estimate": "moments"}]"#, "divide"),
    (#""stages": [{"chunk": 8, "keep": 8}], "queryBlock": 65"#, "allowed are 16"),
    (#""stages": [{"chunk": 8, "keep": 8}], "layers": [{"layers": [0], "keep": 9}]"#, "multiples"),
    (#""stages": [{"chunk": 8, "keep": 8}], "layers": [{"keep": 8}]"#, "needs the key \"layers\""),
    (#""stages": 3"#, "list of objects"),
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
}
