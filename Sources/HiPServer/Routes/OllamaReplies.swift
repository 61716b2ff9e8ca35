// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPJSON
internal import HiPTokenization
internal import InfiniteHiP

/// The lines of Ollama's `/api/generate` and `/api/chat`.
struct OllamaReply: Sendable {
  /// Which of the two.
  enum Route: Sendable { case generate, chat }

  let route: Route
  let model: ServedModel
  let loadTime: Duration
  let start = ContinuousClock.now
  /// Whether lines tell how far the prompt is.
  var tellsProgress = false
  /// Ids of the prompt, where the reply returns them.
  var contextTokens: [TokenID]?

  init(_ route: Route, _ model: ServedModel, loadTime: Duration) {
    self.route = route
    self.model = model
    self.loadTime = loadTime
  }

  /// A line with what is said, thought and called.
  func line(
    _ content: String, thinking: String = "", calls: [ToolCall] = [],
    tokens: [GeneratedToken] = [], done: Bool = false
  ) -> JSONValue {
    let head: JSONValue = ["model": .text(model.name), "created_at": .text(Date().rfc3339)]
    let thought: JSONValue? = thinking.isEmpty ? nil : .text(thinking)
    let called: JSONValue? = calls.isEmpty ? nil : .list(calls.enumerated().map(Self.call))
    let logprobs: JSONValue? =
      tokens.isEmpty ? nil : .list(tokens.map { TokenTexts(model.model.tokenizer).logprob($0) })
    switch route {
    case .generate:
      return head.adding([
        "response": .text(content), "thinking": thought, "tool_calls": called,
        "done": .flag(done), "logprobs": logprobs,
      ])
    case .chat:
      let message: JSONValue = ["role": "assistant", "content": .text(content)]
      return head.adding([
        "message": message.adding(["thinking": thought, "tool_calls": called]),
        "done": .flag(done), "logprobs": logprobs,
      ])
    }
  }

  private static func call(_ index: Int, _ call: ToolCall) -> JSONValue {
    [
      "id": .text(call.id ?? CallID.make()),
      "function": [
        "index": .integer(index), "name": .text(call.name), "arguments": call.arguments,
      ],
    ]
  }

  /// A reply without an answer.
  func empty(_ reason: String) -> JSONValue {
    line("", done: true).adding(["done_reason": .text(reason)])
  }

  /// How far the prompt is.
  func progress(_ processed: Int, _ total: Int) -> JSONValue {
    line("").adding([
      "prompt_eval_completed": .integer(processed), "prompt_eval_total": .integer(total),
      "completed": .integer(processed), "total": .integer(total),
    ])
  }

  /// The last line, behind what is still to be told.
  func last(_ end: AnswerEnd, _ whole: WholeAnswer = WholeAnswer()) -> JSONValue {
    let completion = end.completion
    func nanoseconds(_ seconds: Double) -> JSONValue? {
      seconds > 0 ? .integer(Int(seconds * 1e9)) : nil
    }
    return line(
      whole.content, thinking: whole.thinking, calls: whole.calls, tokens: whole.tokens, done: true
    ).adding([
      "done_reason": .text(completion.reason == .stop ? "stop" : "length"),
      "context": contextTokens.map { tokens in
        .list((tokens + completion.tokens).map { .integer(Int($0)) })
      },
      "total_duration": nanoseconds((.now - start + loadTime) / .seconds(1)),
      "load_duration": nanoseconds(loadTime / .seconds(1)),
      "prompt_eval_count": .integer(completion.promptTokens),
      "prompt_eval_duration": nanoseconds(completion.prefillSeconds),
      "eval_count": .integer(completion.completionTokens),
      "eval_duration": nanoseconds(completion.decodeSeconds),
      "cached_tokens": .integer(completion.cachedTokens), "attention": .text(completion.policy),
      "passages": end.passages.map(PassageList.value),
    ])
  }
}

/// Writes an answer as lines of JSON.
struct OllamaEncoder: ReplyEncoder {
  let reply: OllamaReply
  private var progress: (processed: Int, total: Int)?

  init(_ reply: OllamaReply) { self.reply = reply }

  var end: [UInt8] { [] }

  mutating func encode(_ event: AnswerEvent, choice: Int) -> [UInt8] {
    switch event {
    case .progress(let processed, let total, _, _):
      progress = (processed, total)
      return reply.tellsProgress ? Self.line(reply.progress(processed, total)) : []
    case .tick:
      // Something has to come now and then, and every line is parsed.
      guard let progress, reply.tellsProgress else { return Self.line(reply.line("")) }
      return Self.line(reply.progress(progress.processed, progress.total))
    case .parts(let parts, let tokens):
      var whole = WholeAnswer()
      whole.add(.parts(parts, tokens))
      return Self.line(
        reply.line(
          whole.content, thinking: whole.thinking, calls: whole.calls, tokens: whole.tokens))
    case .finished(let end): return Self.line(reply.last(end))
    }
  }

  func encode(_ error: ServerError) -> [UInt8] { Self.line(error.ollama) }

  private static func line(_ value: JSONValue) -> [UInt8] { value.utf8 + [0x0a] }
}

/// Ids of calls that a server makes.
enum CallID {
  static func make() -> String {
    let letters = Array("abcdefghijklmnopqrstuvwxyz0123456789")
    return "call_" + String((0..<8).map { _ in letters.randomElement() ?? "x" })
  }
}

/// Passages that were read, as replies tell them.
enum PassageList {
  static func value(_ passages: [AnswerEnd.Passage]) -> JSONValue {
    .list(
      passages.map { passage in
        [
          "message": passage.place.map { .integer($0.message) } ?? .null,
          "start": passage.place.map { .integer($0.range.lowerBound) } ?? .null,
          "end": passage.place.map { .integer($0.range.upperBound) } ?? .null,
          "text": .text(passage.text), "share": .number(Double(passage.share)),
        ]
      })
  }
}

/// Tokens as replies tell them.
struct TokenTexts {
  private let tokenizer: any Tokenizer

  init(_ tokenizer: any Tokenizer) { self.tokenizer = tokenizer }

  func text(_ id: TokenID) -> String { String(decoding: tokenizer.bytes(of: id), as: UTF8.self) }

  /// A token with its alternatives.
  func logprob(_ token: GeneratedToken) -> JSONValue {
    choice(token.choice).adding([
      "top_logprobs": .list(token.alternatives.map(choice))
    ])
  }

  private func choice(_ choice: GeneratedToken.Choice) -> JSONValue {
    [
      "token": .text(text(choice.id)), "logprob": .number(max(-9999, choice.logProbability)),
      "bytes": .list(tokenizer.bytes(of: choice.id).map { .integer(Int($0)) }),
    ]
  }
}
