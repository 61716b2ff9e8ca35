// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPCompute
import HiPTokenization
import InfiniteHiP
import Testing

@Suite struct SamplerTests {
  private let logits: [Float] = [0, 3, 1, 2.5, -4]

  /// What a device would find for a request.
  private func candidates(_ request: CandidateRequest) -> Candidates {
    var logits = logits
    for token in Set(request.repeated) {
      let value = logits[Int(token)]
      logits[Int(token)] = value > 0 ? value / request.penalty : value * request.penalty
    }
    let total = log(logits.reduce(0) { $0 + exp(Double($1)) })
    let least = (logits.max() ?? 0) + Float(log(request.share))
    let ranked = logits.indices.sorted { logits[$0] > logits[$1] }.filter { logits[$0] >= least }
    let order = request.isWhole ? Array(logits.indices) : ranked
    var ids: [Int] = []
    var mass = 0.0
    for id in order where ids.count < (request.count > 0 ? request.count : .max) {
      guard request.isWhole || mass < request.mass else { break }
      ids.append(id)
      mass += exp(Double(logits[id]) - total)
    }
    return Candidates(ids: ids.map(Int32.init), logits: ids.map { logits[$0] }, logSumExp: total)
  }

  private func next(_ sampler: inout Sampler) -> TokenID {
    sampler.next(candidates(sampler.request)) ?? -1
  }

  private func draw(_ options: SamplingOptions, _ count: Int = 400) -> [TokenID: Int] {
    var sampler = Sampler(options)
    return (0..<count).reduce(into: [:]) { counts, _ in
      counts[next(&sampler), default: 0] += 1
    }
  }

  @Test func penaltiesGrowWithTheAnswer() {
    var options = SamplingOptions()
    options.presencePenalty = 0.25
    options.frequencyPenalty = 0.5
    options.bias = [4: 2]
    var sampler = Sampler(options)
    #expect(sampler.request.bias == [4: 2])
    #expect(next(&sampler) == 1 && sampler.request.bias == [4: 2, 1: -0.75])
    #expect(next(&sampler) == 1 && sampler.request.bias == [4: 2, 1: -1.25])
  }

  @Test func withoutCandidatesNothingIsChosen() {
    var sampler = Sampler(SamplingOptions(temperature: 1))
    #expect(sampler.next(Candidates(ids: [], logits: [], logSumExp: 0)) == nil)
  }

  @Test func zeroTemperatureTakesTheBest() {
    #expect(draw(SamplingOptions()) == [1: 400])
  }

  @Test func equalSeedsChooseAlike() {
    let options = SamplingOptions(temperature: 1, topP: 1, seed: 5)
    var first = Sampler(options)
    var second = Sampler(options)
    for _ in 0..<100 { #expect(next(&first) == next(&second)) }
    var other = Sampler(SamplingOptions(temperature: 1, topP: 1, seed: 6))
    var again = Sampler(options)
    #expect((0..<50).map { _ in next(&other) } != (0..<50).map { _ in next(&again) })
  }

  @Test func frequenciesFollowTheProbabilities() {
    let counts = draw(SamplingOptions(temperature: 1, topK: 0, topP: 1, seed: 1), 20_000)
    // exp(3) : exp(2.5) = 0.545 : 0.331 of the total 36.8.
    #expect(abs(Double(counts[1] ?? 0) / 20_000 - 0.545) < 0.02)
    #expect(abs(Double(counts[3] ?? 0) / 20_000 - 0.331) < 0.02)
  }

  @Test func topKTopPAndMinPCutTheTail() {
    #expect(Set(draw(SamplingOptions(temperature: 9, topK: 2, topP: 1)).keys) == [1, 3])
    #expect(Set(draw(SamplingOptions(temperature: 9, topK: 0, topP: 0.5)).keys) == [1])
    #expect(
      Set(draw(SamplingOptions(temperature: 9, topK: 0, topP: 1, minP: 0.1)).keys) == [1, 2, 3])
  }

  @Test func theRepeatPenaltyMakesRoomForOthers() {
    var options = SamplingOptions()
    options.repeatPenalty = 2
    var sampler = Sampler(options)
    #expect((0..<3).map { _ in next(&sampler) } == [1, 3, 1])
  }
}

@Suite struct StopMatcherTests {
  private func show(_ pieces: [String], _ stops: [String]) -> (String, Bool) {
    var matcher = StopMatcher(stops)
    var shown = ""
    for piece in pieces {
      let (text, stopped) = matcher.append(piece)
      shown += text
      if stopped { return (shown, true) }
    }
    return (shown + matcher.finish(), false)
  }

  @Test func aStopTextEndsTheAnswerAndIsNotShown() {
    #expect(show(["one two END three"], ["END"]) == ("one two ", true))
    #expect(show(["one E", "N", "D three"], ["END"]) == ("one ", true))
    #expect(show(["a\n", "\nb"], ["\n\n"]) == ("a", true))
  }

  @Test func whatOnlyLooksLikeOneIsShownAfterAll() {
    #expect(show(["one E", "N", "X"], ["END"]) == ("one ENX", false))
    #expect(show(["EEND"], ["END"]) == ("E", true))
    #expect(show(["EN"], ["END"]) == ("EN", false))
  }

  @Test func theFirstOfSeveralCounts() {
    #expect(show(["abc"], ["c", "b"]) == ("a", true))
    #expect(show(["é日本"], ["本"]) == ("é日", true))
    #expect(show(["text"], [""]) == ("text", false))
  }
}
