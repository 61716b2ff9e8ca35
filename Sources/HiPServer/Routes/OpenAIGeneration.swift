// SPDX-License-Identifier: Apache-2.0

internal import HTTPTypes
internal import HiPAttention
internal import HiPJSON
internal import HiPModelStore
internal import HiPModels
internal import HiPTokenization
internal import Hummingbird
internal import InfiniteHiP

/// OpenAI's chat completions and completions.
struct OpenAIGeneration: Sendable {
  let service: GenerationService
  private var settings: ServerSettings { service.settings }

  /// The most answers to one request.
  private static let mostChoices = 8

  func add(to router: Router<ServerContext>) {
    router.post("/v1/chat/completions") { request, context in
      try await answer(try await request.fields(settings), .chat, context)
    }
    router.post("/v1/completions") { request, context in
      try await answer(try await request.fields(settings), .text, context)
    }
  }

  private func answer(
    _ fields: RequestFields, _ route: OpenAIReply.Route, _ context: ServerContext
  ) async throws -> Response {
    guard let name = try fields.text("model"), !name.isEmpty else {
      throw ServerError.badRequest("model is required", parameter: "model")
    }
    let stored = try service.host.find(name)
    return try await service.host.use(stored, keepAlive: try KeepAlive(fields)) { model in
      switch route {
      case .chat: try await chat(fields, model, name, context)
      case .text: try await complete(fields, model, name, context)
      }
    }
  }

  // MARK: Chat

  private func chat(
    _ fields: RequestFields, _ model: ServedModel, _ name: String, _ context: ServerContext
  ) async throws -> Response {
    var chat = ChatRequest(messages: try ChatMessage.list(fields))
    guard !chat.messages.isEmpty else {
      throw ServerError.badRequest("[] is too short - 'messages'", parameter: "messages")
    }
    chat.tools = try (fields.objects("tools") ?? []).map { try ChatRequest.Tool($0) }
    chat.choice = try toolChoice(fields)
    chat.format = try AnswerFormat.openAI(fields)
    let effort = try fields.text("reasoning_effort") ?? fields.fields("reasoning")?.text("effort")
    if let effort, model.dialect.thinking != nil {
      chat.thinks = effort != "none"
      chat.effort = effort == "none" ? nil : effort
    }
    chat.addDefaults(of: model)
    let (tokens, parser, constraint, readsCalls) = try chat.prompt(of: model)
    var request = GenerationRequest(.turn(tokens))
    request.constraint = constraint
    if readsCalls { request.controlTokens = .named }
    if try fields.flag("logprobs") ?? false {
      request.alternatives = try fields.integer("top_logprobs", in: 0...20) ?? 0
    } else if fields["top_logprobs"] != nil {
      throw ServerError.badRequest("top_logprobs needs logprobs", parameter: "top_logprobs")
    }
    var job = try job(fields, request, tokens, parser, model)
    if try fields.flag("return_passages") ?? false { job.messages = chat.messages.map(\.content) }
    var reply = OpenAIReply(.chat, model, named: name)
    reply.tellsLogprobs = request.alternatives != nil
    return try await respond(fields, [job], reply, model, context)
  }

  private func toolChoice(_ fields: RequestFields) throws(ServerError) -> ChatRequest.ToolChoice {
    switch fields["tool_choice"] {
    case nil, .text("auto")?: return .automatic
    case .text("none")?: return .none
    case .text("required")?: return .required
    case .some(let value) where value.members != nil:
      guard let name = value["function"]?["name"]?.text else {
        throw fields.wrong("tool_choice", "an object that names a function")
      }
      return .named(name)
    default: throw fields.wrong("tool_choice", "\"auto\", \"none\", \"required\" or a function")
    }
  }

  // MARK: Completions

  private func complete(
    _ fields: RequestFields, _ model: ServedModel, _ name: String, _ context: ServerContext
  ) async throws -> Response {
    if let suffix = try fields.text("suffix"), !suffix.isEmpty {
      throw ServerError.badRequest("suffix is not supported here", parameter: "suffix")
    }
    let prompts = try prompts(fields, model)
    let alternatives = try fields.integer("logprobs", in: 0...20)
    let echoes = try fields.flag("echo") ?? false
    var reply = OpenAIReply(.text, model, named: name)
    reply.tellsLogprobs = alternatives != nil
    var jobs: [GenerationJob] = []
    for prompt in prompts {
      let tokens = prompt.tokens
      var request = GenerationRequest(.tokens(tokens), maximumTokens: 16)
      request.alternatives = alternatives
      let parser = AnswerParser(model.dialect, readsCalls: false, splitsThinking: false)
      jobs.append(try job(fields, request, tokens, parser, model))
    }
    if echoes {
      for (prompt, job) in zip(prompts, jobs) {
        reply.echoes.append(
          try await service.perform(context) { try await Self.echo(prompt, job, model) })
      }
    }
    return try await respond(fields, jobs, reply, model, context)
  }

  /// A prompt as it is returned, with its probabilities where they are asked for.
  private static func echo(
    _ prompt: Prompt, _ job: GenerationJob, _ model: ServedModel
  ) async throws -> OpenAIReply.Echo {
    try job.checkLength()
    let tokens = prompt.tokens
    var echo = OpenAIReply.Echo(
      text: prompt.text ?? model.model.tokenizer.decode(tokens, keepingControl: true))
    guard let alternatives = job.request.alternatives else { return echo }
    let session = try await model.model.makeSession(
      attention: job.attention, contextLimit: job.contextLimit)
    // A begin token that the server has put there is none of the prompt's own.
    let hidden = prompt.text != nil && tokens.first == model.model.beginToken ? 1 : 0
    echo.ids = Array(tokens.dropFirst(hidden))
    let found = try await session.probabilities(of: tokens, alternatives: max(1, alternatives))
    // The first token has none, whatever stands before it: clients count on that.
    echo.tokens = [nil] + Array(found.dropFirst(hidden))
    return echo
  }

  /// A prompt in tokens, and as it was given where that was a text.
  private struct Prompt: Sendable {
    let tokens: [TokenID]
    let text: String?
  }

  /// Texts or ids; several of them give several answers.
  private func prompts(_ fields: RequestFields, _ model: ServedModel) throws -> [Prompt] {
    guard let value = fields["prompt"] else { throw fields.wrong("prompt", "a string or a list") }
    func encode(_ value: JSONValue) throws -> Prompt {
      if let text = value.text {
        return Prompt(
          tokens: try model.model.tokens(of: .raw(text), atBeginning: true), text: text)
      }
      guard let ids = value.tokens else {
        throw fields.wrong("prompt", "a string, a list of strings, or lists of token ids")
      }
      return Prompt(
        tokens: try model.model.tokens(of: .tokens(ids), atBeginning: true), text: nil)
    }
    if value.text != nil || value.tokens != nil { return [try encode(value)] }
    guard let items = value.items, (1...64).contains(items.count) else {
      throw fields.wrong("prompt", "a string, or a list of 1 to 64 of them")
    }
    return try items.map(encode)
  }

  // MARK: Both

  private func job(
    _ fields: RequestFields, _ request: GenerationRequest, _ tokens: [TokenID],
    _ parser: AnswerParser, _ model: ServedModel
  ) throws -> GenerationJob {
    var request = request
    let options = try fields.fields("options")
    let stored = try OllamaOptions(model.parameters, options?.object)
    request.sampling = try sampling(fields, options, stored, model)
    request.stop = try fields.texts("stop") ?? stored.stop
    let asked = try fields.integer("num_ctx", in: 1...1 << 40) ?? stored.contextLimit
    let limit = min(asked ?? .max, settings.contextLimit)
    let most = 0...OllamaOptions.most
    let maximum =
      try fields.integer("max_completion_tokens", in: most)
      ?? fields.integer("max_tokens", in: most) ?? (request.isText ? 16 : stored.maximumTokens)
    request.maximumTokens =
      maximum == 0 ? 0 : min(maximum, max(1, limit - tokens.count))
    return GenerationJob(
      request: request, promptTokens: tokens, contextLimit: limit,
      attention: try AttentionChoice(fields) ?? options.flatMap { try AttentionChoice($0) }
        ?? settings.attention,
      parser: parser)
  }

  /// OpenAI's defaults, over which stand what a store says, `options` and the request's own members.
  private func sampling(
    _ fields: RequestFields, _ options: RequestFields?, _ stored: OllamaOptions,
    _ model: ServedModel
  ) throws -> SamplingOptions {
    func isSaid(_ key: String) -> Bool {
      options?[key] != nil || model.parameters[key] != nil
    }
    var sampling = stored.sampling
    if !isSaid("temperature") { sampling.temperature = 1 }
    if !isSaid("top_p") { sampling.topP = 1 }
    sampling.temperature = try fields.number("temperature", in: 0...100) ?? sampling.temperature
    sampling.topP = max(1e-6, try fields.number("top_p", in: 0...1) ?? sampling.topP)
    sampling.topK = try fields.integer("top_k").map { max(0, $0) } ?? sampling.topK
    sampling.minP = try fields.number("min_p", in: 0...1) ?? sampling.minP
    sampling.presencePenalty =
      try fields.number("presence_penalty", in: -2...2) ?? sampling.presencePenalty
    sampling.frequencyPenalty =
      try fields.number("frequency_penalty", in: -2...2) ?? sampling.frequencyPenalty
    sampling.repeatPenalty =
      try fields.number("repeat_penalty", in: 0.01...100) ?? sampling.repeatPenalty
    if let seed = try fields.integer("seed") { sampling.seed = UInt64(bitPattern: Int64(seed)) }
    for member in try fields.fields("logit_bias")?.object.members ?? [] {
      guard let id = Int32(member.key),
        (0..<Int32(model.model.architecture.vocabularySize)).contains(id)
      else {
        throw ServerError.badRequest(
          "logit_bias has \"\(member.key)\", which is no token id of this model",
          parameter: "logit_bias")
      }
      guard let bias = member.value.number, (-100...100).contains(bias) else {
        throw ServerError.badRequest(
          "logit_bias of \(member.key) must be a number from -100 to 100", parameter: "logit_bias")
      }
      // The ends of the range forbid a token, or force it.
      sampling.bias[id] = abs(bias) == 100 ? bias * 10 : bias
    }
    return sampling
  }

  private func respond(
    _ fields: RequestFields, _ jobs: [GenerationJob], _ reply: OpenAIReply, _ model: ServedModel,
    _ context: ServerContext
  ) async throws -> Response {
    let choices = try fields.integer("n") ?? 1
    guard (1...Self.mostChoices).contains(choices) else {
      throw ServerError.badRequest(
        "n is \(choices); this server gives 1 to \(Self.mostChoices) answers", parameter: "n")
    }
    if let best = try fields.integer("best_of"), best > choices {
      throw ServerError.badRequest("best_of above n is not supported", parameter: "best_of")
    }
    let keepAlive = try KeepAlive(fields)
    let isStream = try fields.flag("stream") ?? false
    var reply = reply
    reply.tellsUsage = try fields.fields("stream_options")?.flag("include_usage") ?? false
    reply.tellsProgress = try fields.flag("return_progress") ?? false
    guard jobs.count > 1 else {
      let run = try await service.start(jobs[0], choices: choices, on: model, keepAlive: keepAlive)
      guard !isStream else {
        let told = reply
        return .stream(run, type: "text/event-stream", context) { OpenAIEncoder(told) }
      }
      return .json(reply.whole(try await run.answers(choices, context)))
    }
    guard !isStream else {
      throw ServerError.badRequest("several prompts cannot be streamed", parameter: "stream")
    }
    var answers: [WholeAnswer] = []
    for job in jobs {
      let run = try await service.start(job, choices: choices, on: model, keepAlive: keepAlive)
      answers += try await run.answers(choices, context)
    }
    return .json(reply.whole(answers, choices: choices))
  }
}

extension GenerationRequest {
  /// Whether it goes on with a text, and answers no turn.
  fileprivate var isText: Bool {
    if case .tokens = prompt { true } else { false }
  }
}
