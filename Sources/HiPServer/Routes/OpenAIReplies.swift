// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPJSON
internal import HiPModelStore
internal import HiPTokenization
internal import InfiniteHiP

/// The replies of OpenAI's chat completions and completions.
struct OpenAIReply: Sendable {
  /// Which of the two.
  enum Route: Sendable { case chat, text }

  let route: Route
  let model: ServedModel
  let modelName: String
  let id: String
  let created = Int(Date().timeIntervalSince1970)
  /// Whether the last chunk tells what was used.
  var tellsUsage = false
  /// Whether chunks tell how far the prompt is.
  var tellsProgress = false
  var tellsLogprobs = false
  /// What stands before the answers to each prompt, where it is returned with them.
  var echoes: [Echo] = []

  /// The prompt as it stands before an answer.
  struct Echo: Sendable {
    static let none = Echo()
    var text = ""
    /// Its tokens, the first without a probability; empty where none are wanted.
    var tokens: [GeneratedToken?] = []
    var ids: [TokenID] = []
  }

  init(_ route: Route, _ model: ServedModel, named name: String) {
    self.route = route
    self.model = model
    modelName = name
    id = (route == .chat ? "chatcmpl-" : "cmpl-") + UUID().uuidString.lowercased()
  }

  private func head(_ object: String) -> JSONValue {
    [
      "id": .text(id), "object": .text(object), "created": .integer(created),
      "model": .text(modelName),
      "system_fingerprint": .text("fp_" + model.stored.digest.hex.prefix(10)),
    ]
  }

  /// What was used, of all answers, so many to each prompt.
  func usage(_ ends: [AnswerEnd], choices: Int? = nil) -> JSONValue {
    let prompts = stride(from: 0, to: ends.count, by: max(1, choices ?? ends.count))
    let prompt = prompts.reduce(0) { $0 + ends[$1].completion.promptTokens }
    let cached = prompts.reduce(0) { $0 + ends[$1].completion.cachedTokens }
    let generated = ends.reduce(0) { $0 + $1.completion.completionTokens }
    return [
      "prompt_tokens": .integer(prompt), "completion_tokens": .integer(generated),
      "total_tokens": .integer(prompt + generated),
      "prompt_tokens_details": ["cached_tokens": .integer(cached)],
    ]
  }

  static func reason(_ end: AnswerEnd) -> JSONValue {
    if end.hasCalls, end.completion.reason == .stop { return "tool_calls" }
    return end.completion.reason == .stop ? "stop" : "length"
  }

  static func call(_ index: Int, _ call: ToolCall) -> JSONValue {
    [
      "index": .integer(index), "id": .text(call.id ?? CallID.make()), "type": "function",
      "function": ["name": .text(call.name), "arguments": .text(call.arguments.json)],
    ]
  }

  /// The whole reply.
  func whole(_ answers: [WholeAnswer], choices: Int? = nil) -> JSONValue {
    let ends = answers.compactMap(\.end)
    let each = max(1, choices ?? answers.count)
    let told = answers.enumerated().map { index, answer in
      let prompt = index / each
      return choice(answer, index, prompt < echoes.count ? echoes[prompt] : .none)
    }
    return head(route == .chat ? "chat.completion" : "text_completion").adding([
      "choices": .list(told), "usage": usage(ends, choices: choices),
      "attention": ends.first.map { .text($0.completion.policy) },
      "passages": ends.first?.passages.map(PassageList.value),
    ])
  }

  private func choice(_ answer: WholeAnswer, _ index: Int, _ echo: Echo) -> JSONValue {
    let base: JSONValue = ["index": .integer(index)]
    let reason = answer.end.map(Self.reason) ?? .null
    switch route {
    case .text:
      return base.adding([
        "text": .text(echo.text + answer.content),
        "logprobs": tellsLogprobs ? textLogprobs(answer.tokens, behind: echo) : .null,
        "finish_reason": reason,
      ])
    case .chat:
      let hasCalls = !answer.calls.isEmpty
      let message: JSONValue = [
        "role": "assistant",
        "content": hasCalls && answer.content.isEmpty ? .null : .text(answer.content),
      ]
      let thought: JSONValue? = answer.thinking.isEmpty ? nil : .text(answer.thinking)
      return base.adding([
        "message": message.adding([
          "reasoning_content": thought, "reasoning": thought,
          "tool_calls": hasCalls ? .list(answer.calls.enumerated().map(Self.call)) : nil,
        ]), "finish_reason": reason,
        "logprobs": tellsLogprobs ? chatLogprobs(answer.tokens) : .null,
      ])
    }
  }

  func chatLogprobs(_ tokens: [GeneratedToken]) -> JSONValue {
    let texts = TokenTexts(model.model.tokenizer)
    return ["content": .list(tokens.map { texts.logprob($0) }), "refusal": .null]
  }

  /// Tokens with their places in the text, those of a prompt that is returned first.
  func textLogprobs(
    _ tokens: [GeneratedToken], behind echo: Echo = .none, from start: Int = 0
  ) -> JSONValue {
    let texts = TokenTexts(model.model.tokenizer)
    let all = zip(echo.ids, echo.tokens).map { ($0, $1) } + tokens.map { ($0.choice.id, $0) }
    var offset = start
    var offsets: [JSONValue] = []
    for (id, _) in all {
      offsets.append(.integer(offset))
      offset += texts.text(id).unicodeScalars.count
    }
    return [
      "tokens": .list(all.map { .text(texts.text($0.0)) }),
      "token_logprobs": .list(
        all.map { $0.1.map { .number(max(-9999, $0.choice.logProbability)) } ?? .null }),
      "top_logprobs": .list(
        all.map { id, token in
          token.map { token in
            var members = token.alternatives.map {
              JSONValue.Member(
                key: texts.text($0.id), value: .number(max(-9999, $0.logProbability)))
            }
            let own = texts.text(id)
            if !members.contains(where: { $0.key == own }) {
              members.append(
                .init(key: own, value: .number(max(-9999, token.choice.logProbability))))
            }
            return .object(members)
          } ?? .null
        }), "text_offset": .list(offsets),
    ]
  }

  // MARK: Chunks

  /// A chunk with one choice.
  func chunk(
    _ index: Int, _ delta: JSONValue, reason: JSONValue = .null, logprobs: JSONValue? = nil,
    more: KeyValuePairs<String, JSONValue?> = [:]
  ) -> JSONValue {
    var choice: JSONValue = ["index": .integer(index)]
    switch route {
    case .chat:
      choice = choice.adding([
        "delta": delta, "logprobs": logprobs, "finish_reason": reason,
      ])
    case .text:
      choice = choice.adding([
        "text": delta["content"] ?? "", "logprobs": logprobs ?? .null,
        "finish_reason": reason,
      ])
    }
    return head(route == .chat ? "chat.completion.chunk" : "text_completion").adding([
      "choices": [choice]
    ]).adding(more)
  }

  /// A chunk without choices.
  func empty(_ more: KeyValuePairs<String, JSONValue?>) -> JSONValue {
    head(route == .chat ? "chat.completion.chunk" : "text_completion").adding(["choices": []])
      .adding(more)
  }
}

/// Writes an answer as server-sent events.
struct OpenAIEncoder: ReplyEncoder {
  let reply: OpenAIReply
  private var begun: Set<Int> = []
  private var calls: [Int: Int] = [:]
  private var ends: [Int: AnswerEnd] = [:]
  /// Characters of each choice's text so far.
  private var offsets: [Int: Int] = [:]
  private var progress: (processed: Int, total: Int)?

  init(_ reply: OpenAIReply) { self.reply = reply }

  var end: [UInt8] {
    (reply.tellsUsage
      ? Self.event(
        reply.empty(["usage": reply.usage(ends.sorted { $0.key < $1.key }.map(\.value))])) : [])
      + Array("data: [DONE]\n\n".utf8)
  }

  mutating func encode(_ event: AnswerEvent, choice: Int) -> [UInt8] {
    switch event {
    case .tick: return Array(": \(progressText)\n\n".utf8)
    case .progress(let processed, let total, let cached, let milliseconds):
      guard choice == 0 else { return [] }
      progress = (processed, total)
      guard reply.tellsProgress else {
        // A comment: whoever reads events does not see it, and knows that something happens.
        return Array(": \(progressText)\n\n".utf8)
      }
      return Self.event(
        reply.empty([
          "prompt_progress": [
            "total": .integer(total), "processed": .integer(processed),
            "cache": .integer(cached), "time_ms": .integer(milliseconds),
          ]
        ]))
    case .parts(let parts, let tokens):
      return begin(choice)
        + parts.enumerated().flatMap { index, part in
          encode(part, choice, index == 0 ? tokens : [])
        } + (parts.isEmpty ? encode(.content(""), choice, tokens) : [])
    case .finished(let end):
      ends[choice] = end
      return begin(choice)
        + Self.event(
          reply.chunk(
            choice, .object([]), reason: OpenAIReply.reason(end),
            more: [
              "attention": .text(end.completion.policy),
              "passages": end.passages.map(PassageList.value),
            ]))
    }
  }

  private var progressText: String {
    progress.map { "prefill \($0.processed)/\($0.total)" } ?? "waiting"
  }

  private mutating func begin(_ choice: Int) -> [UInt8] {
    guard begun.insert(choice).inserted else { return [] }
    switch reply.route {
    case .chat: return Self.event(reply.chunk(choice, ["role": "assistant", "content": ""]))
    case .text:
      guard let echo = reply.echoes.first else { return [] }
      offsets[choice] = echo.text.unicodeScalars.count
      return Self.event(
        reply.chunk(
          choice, ["content": .text(echo.text)],
          logprobs: reply.tellsLogprobs ? reply.textLogprobs([], behind: echo) : nil))
    }
  }

  private mutating func encode(
    _ part: AnswerParser.Part, _ choice: Int, _ tokens: [GeneratedToken]
  ) -> [UInt8] {
    let delta: JSONValue
    switch part {
    case .content(let text): delta = ["content": .text(text)]
    case .thinking(let text):
      delta = ["reasoning_content": .text(text), "reasoning": .text(text)]
    case .call(let call):
      let index = calls[choice, default: 0]
      calls[choice] = index + 1
      delta = ["tool_calls": [OpenAIReply.call(index, call)]]
    }
    return Self.event(reply.chunk(choice, delta, logprobs: logprobs(tokens, choice)))
  }

  private mutating func logprobs(_ tokens: [GeneratedToken], _ choice: Int) -> JSONValue? {
    guard reply.tellsLogprobs, !tokens.isEmpty else { return nil }
    guard reply.route == .text else { return reply.chatLogprobs(tokens) }
    let start = offsets[choice, default: 0]
    let texts = TokenTexts(reply.model.model.tokenizer)
    offsets[choice] = tokens.reduce(start) { $0 + texts.text($1.choice.id).unicodeScalars.count }
    return reply.textLogprobs(tokens, from: start)
  }

  func encode(_ error: ServerError) -> [UInt8] { Self.event(error.openAI) }

  private static func event(_ value: JSONValue) -> [UInt8] {
    Array("data: ".utf8) + value.utf8 + [0x0a, 0x0a]
  }
}
