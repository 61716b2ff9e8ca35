// SPDX-License-Identifier: Apache-2.0

import HiPTokenization
import InfiniteHiP
import Testing

@Suite struct SamplerTests {
  private let logits: [Float] = [0, 3, 1, 2.5, -4]

  private func draw(_ options: SamplingOptions, _ count: Int = 400) -> [TokenID: Int] {
    var sampler = Sampler(options)
    return (0..<count).reduce(into: [:]) { counts, _ in
      counts[sampler.next(logits), default: 0] += 1
    }
  }

  @Test func zeroTemperatureTakesTheBest() {
    #expect(draw(SamplingOptions()) == [1: 400])
  }

  @Test func equalSeedsChooseAlike() {
    let options = SamplingOptions(temperature: 1, topP: 1, seed: 5)
    var first = Sampler(options)
    var second = Sampler(options)
    for _ in 0..<100 { #expect(first.next(logits) == second.next(logits)) }
    var other = Sampler(SamplingOptions(temperature: 1, topP: 1, seed: 6))
    var again = Sampler(options)
    #expect((0..<50).map { _ in other.next(logits) } != (0..<50).map { _ in again.next(logits) })
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
    #expect((0..<3).map { _ in sampler.next(logits) } == [1, 3, 1])
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
