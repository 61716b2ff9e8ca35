// SPDX-License-Identifier: Apache-2.0

import HiPEvaluation
import Testing

@Suite struct ScoringTests {
  /// The likeness as MRCR scores it, prefix and all.
  private func ratio(_ text: String, _ reference: String) -> Double {
    Scoring.sequence(prefix: "").score(text, [reference])
  }

  @Test func ratiosAreThoseOfPythonsDifflib() {
    #expect(ratio("abcd", "bcde") == 0.75)
    #expect(ratio("", "a") == 0)
    #expect(ratio("", "") == 1)
    #expect(abs(ratio("The amber fox waits.", "The amber ox waited.") - 0.9) < 1e-12)
    let (first, second) = (
      "private Thread currentThread;", "private volatile Thread currentThread;"
    )
    #expect(abs(ratio(first, second) - 0.8656716417910447) < 1e-12)
  }

  @Test func frequentCharactersOfALongReferenceBeginNoMatch() {
    func twice(_ text: String) -> String { text + text }
    let first =
      twice(
        "The mellow cherry watches over the green broom. The honest cherry hides behind the lunar "
          + "iron. ") + "The daring cherry runs past."
    let second =
      twice(
        "The mellow cherry watches over the azure bench. The curious cherry hides behind the lunar "
          + "iron. ") + "A fluffy cherry dreams of the elder mirror."
    #expect(abs(ratio(first, second) - 0.47240618101545256) < 1e-12)
    #expect(abs(ratio(second, first) - 0.16777041942604856) < 1e-12)
    let (third, fourth) = (
      String(repeating: "graceful-compass ", count: 3) + String(repeating: "x", count: 250),
      String(repeating: "x", count: 240) + String(repeating: "modest compass", count: 3)
    )
    #expect(abs(ratio(third, fourth) - 0.0823327615780446) < 1e-12)
  }

  @Test func anAnswerWithoutThePrefixHasNoLikeness() {
    let scoring = Scoring.sequence(prefix: "abcdeFGHIJ")
    #expect(scoring.score("abcdeFGHIJThe fox.", ["The fox."]) == 1)
    #expect(scoring.score("The fox.", ["The fox."]) == 0)
  }

  @Test func wordErrorsLeavePartOfTheScore() {
    // One of three words is wrong, one is missing, one is too many.
    #expect(abs(Scoring.wordErrors.score("a b d", ["a b c"]) - 2.0 / 3) < 1e-12)
    #expect(abs(Scoring.wordErrors.score("a c", ["a b c"]) - 2.0 / 3) < 1e-12)
    #expect(abs(Scoring.wordErrors.score("a b x c", ["a b c"]) - 2.0 / 3) < 1e-12)
    // What occurs is found, whatever stands around it and whatever the case.
    #expect(Scoring.wordErrors.score("It is A B C, and so on and on.", ["a b c"]) == 1)
    // More errors than words leave nothing.
    #expect(Scoring.wordErrors.score("one two three four five", ["6"]) == 0)
    #expect(Scoring.wordErrors.score("", ["1234567"]) == 0)
    #expect(Scoring.wordErrors.score("1234567 and 7654321.", ["1234567", "1111111"]) == 0.5)
  }

  @Test func listsOfNodesScoreTheF1OfTheirSets() {
    let score = { Scoring.nameSet.score($0, $1) }
    #expect(score("b, a]", ["a", "b"]) == 1)
    #expect(score("Final Answer: [a, b, c, d]", ["a", "b"]) == 2.0 * 2 / 6)
    #expect(score("a, a, x]\nand more [b]", ["a", "b"]) == 0.5)
    #expect(score("]", []) == 1)
    #expect(score("a]", []) == 0)
    #expect(score("", ["a"]) == 0)
  }

  @Test func countsScoreByHowFarTheyAreOff() {
    #expect(Scoring.nearNumber.score("12.", ["12"]) == 1)
    #expect(Scoring.nearNumber.score("about 14", ["12"]) == 0.5625)
    #expect(Scoring.nearNumber.score("none", ["12"]) == 0)
    #expect(Scoring.nearNumber.score("1,234", ["1234"]) == 1)
    #expect(Scoring.nearNumber.score("99999999999999999999", ["12"]) == 0)
    #expect(Scoring.nearNumber.score("1000000", ["12"]) < 1e-20)
    #expect(Scoring.beginning.score("'More common' than", ["more common"]) == 1)
    #expect(Scoring.beginning.score("it is more common", ["more common"]) == 0)
  }
}
