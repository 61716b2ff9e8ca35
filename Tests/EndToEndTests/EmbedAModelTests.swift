// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPCPU
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

/// The program of the article "Embed a model", which `Scripts/check` compares with this one.
@Suite struct EmbedAModelTests {
  @Test func theProgramOfTheArticleAnswers() async throws {
    let text =
      try DemoModel.novel(4000) + " The home of Clara Kendall is in Amsterdam. He went on. "
    let answers = try await answers(
      about: text, questions: ["Where does Clara Kendall live?", "Where is Clara Kendall's home?"],
      modelPath: DemoModel.path)
    #expect(answers.count == 2)
    #expect(answers[0].contains("Amsterdam"))
  }
}

// MARK: The article's program

func answers(about text: String, questions: [String], modelPath: String) async throws -> [String] {
  let model = try await LanguageModel.load(modelPath) { try CPUBackend() }
  let session = try await model.makeSession()

  // The text is stored once, in the user's turn, as the model's own template writes it.
  guard let frame = model.chatTemplate?.frame else { return [] }
  let document = GenerationRequest(
    .pieces(frame.opening + [.text(text + "\n\n")]), maximumTokens: 0)
  for try await _ in session.respond(to: document) {}

  // Each question goes on from there in a fork, which shares what is stored.
  var answers: [String] = []
  for question in questions {
    let fork = try await session.fork()
    let request = GenerationRequest(
      .pieces([.text(question)] + frame.closing), maximumTokens: 64)
    var answer = ""
    for try await event in fork.respond(to: request) {
      switch event {
      case .progress, .token: break
      case .text(let more): answer += more
      case .finished(let completion): print("\(completion.completionTokens) tokens")
      }
    }
    answers.append(answer)
  }
  return answers
}
