// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
internal import HiPAttention
internal import HiPGrammar
internal import HiPJSON
internal import HiPModelStore
internal import HiPTokenization
internal import Hummingbird
internal import InfiniteHiP

/// SGLang's `/generate`, which benchmark scripts use.
struct SGLangGenerate: Sendable {
  let service: GenerationService
  private var settings: ServerSettings { service.settings }

  func add(to router: Router<ServerContext>) {
    for method in [HTTPRequest.Method.post, .put] {
      router.on("/generate", method: method) { request, context in
        try await answer(try await request.fields(settings), context)
      }
    }
  }

  private func answer(_ fields: RequestFields, _ context: ServerContext) async throws -> Response {
    let stored: StoredModel
    if let name = try fields.text("model") {
      stored = try service.host.find(name)
    } else {
      stored = try await service.defaultModel()
    }
    return try await service.host.use(stored, keepAlive: nil) { model in
      try await answer(fields, model, context)
    }
  }

  private func answer(
    _ fields: RequestFields, _ model: ServedModel, _ context: ServerContext
  ) async throws -> Response {
    let (prompts, isList) = try prompts(fields, model)
    let jobs = try prompts.map { try job(fields, $0, model) }
    if try fields.flag("stream") ?? false {
      guard jobs.count == 1 else {
        throw ServerError.badRequest("several prompts cannot be streamed", parameter: "stream")
      }
      let run = try await service.start(jobs[0], on: model, keepAlive: nil)
      let encoder = SGLangEncoder(
        texts: TokenTexts(model.model.tokenizer), tellsLogprobs: try tellsLogprobs(fields))
      return .stream(run, type: "text/event-stream", context) { encoder }
    }
    var replies: [JSONValue] = []
    for job in jobs {
      let run = try await service.start(job, on: model, keepAlive: nil)
      let answer = try await run.answers(1, context)[0]
      guard let end = answer.end else { throw CancellationError() }
      var encoder = SGLangEncoder(
        texts: TokenTexts(model.model.tokenizer), tellsLogprobs: try tellsLogprobs(fields))
      _ = encoder.encode(.parts([.content(answer.content)], answer.tokens), choice: 0)
      replies.append(encoder.reply(end))
    }
    return .json(isList ? .list(replies) : replies[0])
  }

  private func tellsLogprobs(_ fields: RequestFields) throws(ServerError) -> Bool {
    try fields.flag("return_logprob") ?? false
  }

  private func prompts(
    _ fields: RequestFields, _ model: ServedModel
  ) throws -> (prompts: [[TokenID]], isList: Bool) {
    if let ids = fields["input_ids"] {
      if let one = ids.tokens { return ([one], false) }
      let all = (ids.items ?? []).compactMap(\.tokens)
      guard !all.isEmpty, all.count == ids.items?.count else {
        throw fields.wrong("input_ids", "a list of token ids")
      }
      return (all, true)
    }
    guard let texts = try fields.texts("text"), !texts.isEmpty else {
      throw ServerError.badRequest("give text or input_ids", parameter: "text")
    }
    return (
      try texts.map { try model.model.tokens(of: .raw($0), atBeginning: true) },
      fields["text"]?.items != nil
    )
  }

  private func job(
    _ fields: RequestFields, _ tokens: [TokenID], _ model: ServedModel
  ) throws -> GenerationJob {
    let parameters = try fields.fields("sampling_params") ?? RequestFields(.object([]), path: "")
    for key in ["regex", "ebnf", "structural_tag", "stop_regex"] where parameters[key] != nil {
      throw parameters.wrong(key, "absent: it is not supported; use json_schema")
    }
    if let count = try parameters.integer("n"), count != 1 { throw parameters.wrong("n", "1") }
    var sampling = SamplingOptions(
      temperature: try parameters.number("temperature", in: 0...100) ?? 1,
      topK: max(0, try parameters.integer("top_k") ?? 0),
      topP: max(1e-6, try parameters.number("top_p", in: 0...1) ?? 1),
      minP: try parameters.number("min_p", in: 0...1) ?? 0,
      seed: try parameters.integer("sampling_seed").map { UInt64(bitPattern: Int64($0)) }
        ?? .random(in: 0...UInt64.max))
    sampling.repeatPenalty = try parameters.number("repetition_penalty", in: 0.01...100) ?? 1
    sampling.presencePenalty = try parameters.number("presence_penalty", in: -2...2) ?? 0
    sampling.frequencyPenalty = try parameters.number("frequency_penalty", in: -2...2) ?? 0
    var request = GenerationRequest(
      .tokens(tokens), sampling: sampling,
      maximumTokens: try parameters.integer("max_new_tokens", in: 0...OllamaOptions.most)
        ?? 128, stop: try parameters.texts("stop") ?? [])
    if try parameters.flag("ignore_eos") ?? false { request.endings = .none }
    if !(try parameters.flag("skip_special_tokens") ?? true) { request.controlTokens = .named }
    if let schema = parameters["json_schema"] {
      let document = try schema.text.map { try JSONValue(Array($0.utf8)) } ?? schema
      request.constraint = try model.constraint([.schema(document)])
    }
    // Ids are told as they come.
    request.alternatives = try fields.integer("top_logprobs_num", in: 0...20) ?? 0
    if let start = try fields.integer("logprob_start_len"), start >= 0 {
      throw ServerError.badRequest(
        "logprob_start_len must be -1: log-probabilities of prompts are told by /v1/completions with echo",
        parameter: "logprob_start_len")
    }
    let limit = min(try fields.integer("num_ctx", in: 1...1 << 40) ?? .max, settings.contextLimit)
    return GenerationJob(
      request: request, promptTokens: tokens, contextLimit: limit,
      attention: try AttentionChoice(fields) ?? settings.attention,
      parser: AnswerParser(model.dialect, readsCalls: false, splitsThinking: false))
  }
}

/// Writes an answer as SGLang has it: each event holds the whole text so far.
struct SGLangEncoder: ReplyEncoder {
  let texts: TokenTexts
  let tellsLogprobs: Bool
  private let id = UUID().uuidString.lowercased()
  private var text = ""
  private var tokens: [GeneratedToken] = []
  private var counts = (prompt: 0, cached: 0)

  init(texts: TokenTexts, tellsLogprobs: Bool) {
    self.texts = texts
    self.tellsLogprobs = tellsLogprobs
  }

  var end: [UInt8] { Array("data: [DONE]\n\n".utf8) }

  mutating func encode(_ event: AnswerEvent, choice: Int) -> [UInt8] {
    switch event {
    case .tick: return Array(": waiting\n\n".utf8)
    case .progress(let processed, let total, let cached, _):
      counts = (total, cached)
      return Array(": prefill \(processed)/\(total)\n\n".utf8)
    case .parts(let parts, let tokens):
      self.tokens += tokens
      for case .content(let more) in parts { text += more }
      return Self.event(value(nil))
    case .finished(let end): return Self.event(reply(end))
    }
  }

  func encode(_ error: ServerError) -> [UInt8] {
    Self.event(["error": ["message": .text(error.message)]])
  }

  /// The whole reply.
  func reply(_ end: AnswerEnd) -> JSONValue { value(end) }

  private func value(_ end: AnswerEnd?) -> JSONValue {
    let completion = end?.completion
    let reason: JSONValue =
      switch completion?.reason {
      case nil: .null
      case .stop?: ["type": "stop", "matched": .null]
      case .length?, .context?:
        ["type": "length", "length": .integer(completion?.completionTokens ?? 0)]
      }
    let meta: JSONValue = [
      "id": .text(id), "finish_reason": reason,
      "prompt_tokens": .integer(completion?.promptTokens ?? counts.prompt),
      "completion_tokens": .integer(completion?.completionTokens ?? tokens.count),
      "cached_tokens": .integer(completion?.cachedTokens ?? counts.cached),
      "weight_version": "default",
      "e2e_latency": .number(
        (completion?.prefillSeconds ?? 0) + (completion?.decodeSeconds ?? 0)),
    ]
    let logprobs: JSONValue? =
      tellsLogprobs ? .list(tokens.map { triple($0.choice) }) : nil
    let tops: JSONValue? =
      !tellsLogprobs || tokens.allSatisfy { $0.alternatives.isEmpty }
      ? nil : .list(tokens.map { .list($0.alternatives.map(triple)) })
    return [
      "text": .text(text),
      "output_ids": .list(
        (completion?.tokens ?? tokens.map(\.choice.id)).map { .integer(Int($0)) }),
      "meta_info": meta.adding(["output_token_logprobs": logprobs, "output_top_logprobs": tops]),
    ]
  }

  private func triple(_ choice: GeneratedToken.Choice) -> JSONValue {
    [.number(choice.logProbability), .integer(Int(choice.id)), .text(texts.text(choice.id))]
  }

  private static func event(_ value: JSONValue) -> [UInt8] {
    Array("data: ".utf8) + value.utf8 + [0x0a, 0x0a]
  }
}
