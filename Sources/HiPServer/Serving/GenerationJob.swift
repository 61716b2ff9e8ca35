// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPAttention
internal import HiPJSON
internal import HiPTokenization
internal import InfiniteHiP

/// What a request asks of a model, whatever API it came by.
struct GenerationJob: Sendable {
  /// The prompt in tokens, and how it is answered.
  var request: GenerationRequest
  /// Ids of the whole prompt.
  let promptTokens: [TokenID]
  /// The most tokens of prompt and answer.
  var contextLimit: Int
  /// What tokens attend to.
  var attention: AttentionChoice
  /// Takes the answer apart.
  var parser: AnswerParser
  /// Texts of the request's messages, in which passages are looked up; nil where those are not wanted.
  var messages: [String]?

  /// - Throws: `ServerError` naming both numbers, where prompt and answer have no room.
  func checkLength() throws(ServerError) {
    guard promptTokens.count + min(1, request.maximumTokens) <= contextLimit else {
      throw .overflow(promptTokens: promptTokens.count, limit: contextLimit)
    }
  }

  /// The same job with another seed.
  func choice(_ index: Int) -> GenerationJob {
    var job = self
    job.request.sampling.seed &+= UInt64(index)
    return job
  }
}

/// What happens while a request is answered.
enum AnswerEvent: Sendable {
  /// Tokens of the prompt that are stored, and of those the ones that were stored before.
  case progress(processed: Int, total: Int, cached: Int, milliseconds: Int)
  /// More of the answer, and the tokens that it was made of where those are reported.
  case parts([AnswerParser.Part], [GeneratedToken])
  /// The end.
  case finished(AnswerEnd)
  /// Nothing else happened for a while.
  case tick
}

/// How an answer ended.
struct AnswerEnd: Sendable {
  let completion: Completion
  let hasCalls: Bool
  /// Nil where they are not wanted.
  let passages: [Passage]?

  /// A stretch of a message that was attended to.
  struct Passage: Sendable {
    let text: String
    let share: Float
    /// The message and the place in it, in UTF-16 code units; nil where it was not found.
    let place: (message: Int, range: Range<Int>)?
  }
}

extension AttentionChoice {
  /// The choice that a request names: a preset or a policy, with a budget of keys.
  init?(_ fields: RequestFields) throws {
    guard fields["attention"] != nil || fields["budget"] != nil else { return nil }
    var choice = AttentionChoice.automatic
    switch fields["attention"] {
    case nil: break
    case .text(let name)?:
      guard let preset = AttentionChoice.named(name) else {
        let known = AttentionChoice.presets.map(\.name).joined(separator: ", ")
        throw ServerError.badRequest(
          "attention is \"\(name)\"; there are \(known)", parameter: "attention")
      }
      choice = preset
    case .some(let document):
      let policy: AttentionChoice.Document
      do {
        policy = try JSONDecoder().decode(
          AttentionChoice.Document.self, from: Data(document.utf8))
      } catch let error as PolicyError {
        throw error
      } catch {
        throw fields.wrong("attention", "the name of a policy, or a policy")
      }
      choice = AttentionChoice(name: "custom", policy: policy.policy, dense: policy.dense)
    }
    if let budget = try fields.integer("budget", in: 1...1 << 24) {
      choice = AttentionChoice(
        name: choice.name, policy: try choice.policy.changed(sink: nil, window: nil, keep: budget),
        dense: choice.dense)
    }
    self = choice
  }
}
