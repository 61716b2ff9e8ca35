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
internal import Logging

/// Ollama's `/api/generate` and `/api/chat`.
struct OllamaGeneration: Sendable {
  let service: GenerationService
  private var host: ModelHost { service.host }

  func add(to router: Router<ServerContext>) {
    router.post("/api/generate") { request, context in
      try await answer(try await request.fields(service.settings), .generate, context)
    }
    router.post("/api/chat") { request, context in
      try await answer(try await request.fields(service.settings), .chat, context)
    }
  }

  private func answer(
    _ fields: RequestFields, _ route: OllamaReply.Route, _ context: ServerContext
  ) async throws -> Response {
    guard let name = try fields.first(of: ["model", "name"]), !name.isEmpty else {
      throw ServerError.badRequest("model is required", parameter: "model")
    }
    let stored = try host.find(name)
    let keepAlive = try KeepAlive(fields)
    let start = ContinuousClock.now
    return try await host.use(stored, keepAlive: keepAlive) { model in
      try await answer(fields, route, model, loadTime: .now - start, keepAlive, context)
    }
  }

  private func answer(
    _ fields: RequestFields, _ route: OllamaReply.Route, _ model: ServedModel, loadTime: Duration,
    _ keepAlive: KeepAlive?, _ context: ServerContext
  ) async throws -> Response {
    var reply = OllamaReply(route, model, loadTime: loadTime)
    let asked = try fields.fields("options")
    let options = try OllamaOptions(model.parameters, asked?.object)
    if !options.unknown.isEmpty {
      context.logger.warning(
        "unknown options", metadata: ["options": "\(options.unknown.joined(separator: ", "))"])
    }
    guard let prompt = try prompt(fields, route, model, &reply) else {
      if keepAlive == .seconds(0) { await host.unload(model.stored) }
      return .json(reply.empty(keepAlive == .seconds(0) ? "unload" : "load"))
    }
    if try fields.flag("_debug_render_only") ?? false {
      let text = model.model.tokenizer.decode(prompt.tokens, keepingControl: true)
      return .json(
        reply.line("").adding([
          "_debug_info": ["rendered_template": .text(text), "image_count": 0]
        ]))
    }
    var request = GenerationRequest(
      .turn(prompt.tokens), sampling: options.sampling, maximumTokens: options.maximumTokens,
      stop: options.stop)
    if prompt.isRaw { request.prompt = .tokens(prompt.tokens) }
    request.constraint = prompt.constraint
    request.alternatives = try alternatives(fields)
    if prompt.readsCalls { request.controlTokens = .named }
    let own = try fields.integer("num_ctx", in: 1...1 << 40)
    let limit = min(own ?? options.contextLimit ?? .max, service.settings.contextLimit)
    request.maximumTokens = min(
      request.maximumTokens, max(1, limit - prompt.tokens.count))
    var job = GenerationJob(
      request: request, promptTokens: prompt.tokens, contextLimit: limit,
      attention: try AttentionChoice(fields) ?? asked.flatMap { try AttentionChoice($0) }
        ?? service.settings.attention,
      parser: prompt.parser)
    if try fields.flag("return_passages") ?? false { job.messages = prompt.messages }
    if options.maximumTokens == 0 { job.request.maximumTokens = 0 }
    reply.tellsProgress =
      try (fields.flag("return_progress") ?? false)
      || (fields.flag("prompt_eval_progress") ?? false)
    let run = try await service.start(job, on: model, keepAlive: keepAlive)
    if try fields.flag("stream") ?? true {
      let told = reply
      return .stream(run, type: "application/x-ndjson", context) { OllamaEncoder(told) }
    }
    let whole = try await run.answers(1, context)[0]
    guard let end = whole.end else { throw CancellationError() }
    return .json(reply.last(end, whole))
  }

  private func alternatives(_ fields: RequestFields) throws(ServerError) -> Int? {
    let top = try fields.integer("top_logprobs") ?? 0
    guard (0...20).contains(top) else {
      throw .badRequest("top_logprobs must be between 0 and 20", parameter: "top_logprobs")
    }
    return try fields.flag("logprobs") ?? false ? top : nil
  }

  /// A prompt in tokens, and how its answer is read.
  private struct Prompt {
    var tokens: [TokenID]
    var parser: AnswerParser
    var constraint: AnswerConstraint?
    var readsCalls = false
    var isRaw = false
    var messages: [String] = []
  }

  /// Nil where there is none, and the model is to be loaded only.
  private func prompt(
    _ fields: RequestFields, _ route: OllamaReply.Route, _ model: ServedModel,
    _ reply: inout OllamaReply
  ) throws -> Prompt? {
    let (thinks, effort) = try thinking(fields, model)
    let format = try AnswerFormat.ollama(fields)
    switch route {
    case .chat:
      var chat = ChatRequest(messages: try ChatMessage.list(fields))
      guard !chat.messages.isEmpty else { return nil }
      chat.tools = try (fields.objects("tools") ?? []).map { try ChatRequest.Tool($0) }
      (chat.format, chat.thinks, chat.effort) = (format, thinks, effort)
      return try self.prompt(chat, model, nil)
    case .generate:
      let text = try fields.text("prompt") ?? ""
      let suffix = try fields.text("suffix")
      if let images = fields["images"]?.items, !images.isEmpty {
        throw ServerError.badRequest("\(model.name) takes no images", parameter: "images")
      }
      guard !text.isEmpty || !(suffix ?? "").isEmpty else { return nil }
      let system = try fields.text("system")
      let template = try fields.text("template")
      let context = fields["context"]
      if try fields.flag("raw") ?? false {
        guard system ?? "" == "", template ?? "" == "", context?.items ?? [] == [] else {
          throw ServerError.badRequest("raw mode does not support template, system, or context")
        }
        let tokens = try model.model.tokens(of: .raw(text), atBeginning: true)
        return Prompt(
          tokens: tokens,
          parser: AnswerParser(model.dialect, readsCalls: false, splitsThinking: false),
          constraint: try format.map { try model.constraint($0) }, isRaw: true, messages: [text])
      }
      if !(suffix ?? "").isEmpty, !model.card.capabilities.contains("insert") {
        throw ServerError.badRequest("\"\(model.name)\" does not support insert")
      }
      var chat = ChatRequest(messages: [ChatMessage(role: .user, content: text)])
      if let system, !system.isEmpty {
        chat.messages.insert(ChatMessage(role: .system, content: system), at: 0)
      }
      (chat.format, chat.thinks, chat.effort, chat.suffix) = (format, thinks, effort, suffix)
      let override = try template.flatMap { template -> ChatTemplate? in
        template.isEmpty ? nil : try model.model.description.chatTemplate(by: .go(template))
      }
      var prompt = try self.prompt(chat, model, override)
      if let context {
        guard let before = context.items?.isEmpty == true ? [] : context.tokens else {
          throw fields.wrong("context", "a list of tokens")
        }
        let begin = model.model.beginToken
        prompt.tokens = before + prompt.tokens.drop { $0 == begin }
      }
      reply.contextTokens = prompt.tokens
      return prompt
    }
  }

  private func prompt(
    _ chat: ChatRequest, _ model: ServedModel, _ template: ChatTemplate?
  ) throws -> Prompt {
    var chat = chat
    chat.addDefaults(of: model)
    let (tokens, parser, constraint, readsCalls) = try chat.prompt(of: model, by: template)
    return Prompt(
      tokens: tokens, parser: parser, constraint: constraint, readsCalls: readsCalls,
      messages: chat.messages.map(\.content))
  }

  private func thinking(
    _ fields: RequestFields, _ model: ServedModel
  ) throws(ServerError) -> (thinks: Bool?, effort: String?) {
    switch fields["think"] {
    case nil: return (nil, nil)
    case .flag(let flag)?:
      guard !flag || model.dialect.thinking != nil else {
        throw .badRequest("\"\(model.name)\" does not support thinking", parameter: "think")
      }
      return (flag, nil)
    case .text(let effort)? where ["low", "medium", "high", "max"].contains(effort):
      guard model.dialect.thinking != nil else {
        throw .badRequest("\"\(model.name)\" does not support thinking", parameter: "think")
      }
      return (true, effort)
    default: throw fields.wrong("think", "true, false, \"low\", \"medium\", \"high\" or \"max\"")
    }
  }
}

extension KeepAlive {
  /// How long a request wants its model to stay.
  init?(_ fields: RequestFields) throws(ServerError) {
    switch fields["keep_alive"] {
    case nil: return nil
    case .text(let text)?:
      guard let time = KeepAlive(text) else {
        throw fields.wrong("keep_alive", "a number of seconds, or a duration such as \"5m\"")
      }
      self = time
    case .some(let value):
      guard let seconds = value.number else {
        throw fields.wrong("keep_alive", "a number of seconds, or a duration such as \"5m\"")
      }
      self.init(seconds: seconds)
    }
  }
}
