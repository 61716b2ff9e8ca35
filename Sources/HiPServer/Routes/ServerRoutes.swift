// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
internal import HiPAttention
internal import HiPJSON
internal import HiPModelStore
internal import HiPModels
internal import HiPTokenization
internal import Hummingbird
internal import InfiniteHiP

/// What clients ask about a server: health, models, tokens, metrics.
struct ServerRoutes: Sendable {
  let service: GenerationService
  private var settings: ServerSettings { service.settings }

  func add(to router: Router<ServerContext>) {
    for path in ["/health", "/health_generate", "/v1/health"] {
      router.get(RouterPath(path)) { _, _ in
        guard !service.admission.isClosed else { throw ServerError.shuttingDown }
        return Response.json(["status": "ok"])
      }
    }
    for path in ["/v1/models", "/models"] {
      router.get(RouterPath(path)) { _, _ in
        var items: [JSONValue] = []
        for stored in service.host.catalog.models() { items.append(await item(stored)) }
        return Response.json(["object": "list", "data": .list(items)])
      }
    }
    // Names of models hold slashes.
    router.get("/v1/models/**") { _, context in
      let rest = context.parameters.getCatchAll().joined(separator: "/")
      let name = rest.removingPercentEncoding ?? rest
      return Response.json(await item(try service.host.find(name)))
    }
    for path in ["/tokenize", "/v1/tokenize"] {
      router.post(RouterPath(path)) { request, _ in
        try await tokenize(try await request.fields(settings))
      }
    }
    for path in ["/detokenize", "/v1/detokenize"] {
      router.post(RouterPath(path)) { request, _ in
        try await detokenize(try await request.fields(settings))
      }
    }
    router.post("/apply-template") { request, _ in
      try await apply(try await request.fields(settings))
    }
    router.get("/props") { _, _ in try await properties() }
    for path in ["/model_info", "/get_model_info"] {
      router.get(RouterPath(path)) { _, _ in try await information() }
    }
    router.get("/metrics") { _, _ in
      await gauges()
      return Response.bytes(
        Array(service.metrics.registry.text.utf8), type: "text/plain; version=0.0.4; charset=utf-8")
    }
  }

  private func item(_ stored: StoredModel) async -> JSONValue {
    let card = try? await service.host.card(stored)
    return [
      "id": .text("\(stored.name)"), "object": "model",
      "created": .integer(Int(stored.modified.timeIntervalSince1970)), "owned_by": "library",
      "max_model_len": .integer(settings.contextLimit),
      "meta": [
        "n_ctx_train": .integer(card?.contextLength ?? 0),
        "n_embd": .integer(card?.embeddingLength ?? 0),
        "n_params": .integer(card?.parameterCount ?? 0), "size": .integer(stored.byteCount),
      ],
    ]
  }

  private func model<Result: Sendable>(
    _ fields: RequestFields?, _ body: @Sendable (ServedModel) async throws -> Result
  ) async throws -> Result {
    let stored: StoredModel
    if let name = try fields?.text("model") {
      stored = try service.host.find(name)
    } else {
      stored = try await service.defaultModel()
    }
    return try await service.host.use(stored, keepAlive: nil, body)
  }

  private func tokenize(_ fields: RequestFields) async throws -> Response {
    guard let text = try fields.first(of: ["content", "prompt", "text"]) else {
      throw fields.wrong("content", "a string")
    }
    let addsBegin = try fields.flag("add_special") ?? fields.flag("add_special_tokens") ?? false
    let parses = try fields.flag("parse_special") ?? true
    let hasPieces = try fields.flag("with_pieces") ?? false
    return try await model(fields) { model in
      let tokenizer = model.model.tokenizer
      var ids = tokenizer.encode(text, special: parses ? .parse : .text)
      if addsBegin, let begin = model.model.beginToken, ids.first != begin {
        ids.insert(begin, at: 0)
      }
      let texts = TokenTexts(tokenizer)
      return .json([
        "tokens": .list(
          ids.map { id in
            hasPieces
              ? ["id": .integer(Int(id)), "piece": .text(texts.text(id))] : .integer(Int(id))
          }), "count": .integer(ids.count), "max_model_len": .integer(settings.contextLimit),
      ])
    }
  }

  private func detokenize(_ fields: RequestFields) async throws -> Response {
    let ids = fields["tokens"]?.tokens ?? (fields["tokens"]?.items?.isEmpty == true ? [] : nil)
    guard let ids else { throw fields.wrong("tokens", "a list of token ids") }
    return try await model(fields) { model in
      let size = Int32(model.model.architecture.vocabularySize)
      if let id = ids.first(where: { $0 < 0 || $0 >= size }) {
        throw ServerError.badRequest("token \(id) is not of the vocabulary, 0 to \(size - 1)")
      }
      let text = model.model.tokenizer.decode(ids, keepingControl: true)
      return .json(["content": .text(text), "prompt": .text(text)])
    }
  }

  private func apply(_ fields: RequestFields) async throws -> Response {
    var asked = ChatRequest(messages: try ChatMessage.list(fields))
    asked.tools = try (fields.objects("tools") ?? []).map { try ChatRequest.Tool($0) }
    let request = asked
    return try await model(fields) { model in
      var chat = request
      chat.addDefaults(of: model)
      let tokens = try chat.prompt(of: model).tokens
      return .json(["prompt": .text(model.model.tokenizer.decode(tokens, keepingControl: true))])
    }
  }

  private func properties() async throws -> Response {
    try await model(nil) { model in
      .json([
        "default_generation_settings": [
          "n_ctx": .integer(settings.contextLimit), "params": ["temperature": 0.8, "top_k": 40],
        ],
        "total_slots": .integer(settings.parallel), "model_path": .text(model.model.path),
        "model_alias": .text(model.name), "chat_template": .text(model.card.template),
        "bos_token": .text(
          model.model.beginToken.map { TokenTexts(model.model.tokenizer).text($0) } ?? ""),
        "modalities": ["vision": false, "audio": false],
        "build_info": .text("infinitehip"), "n_ctx_train": .integer(model.card.contextLength),
      ])
    }
  }

  private func information() async throws -> Response {
    try await model(nil) { model in
      .json([
        "model_path": .text(model.model.path), "tokenizer_path": .text(model.model.path),
        "is_generation": true, "preferred_sampling_params": .null, "weight_version": "default",
        "has_image_understanding": false, "has_audio_understanding": false,
        "model_type": .text(model.card.family), "architectures": [.text(model.card.family)],
      ])
    }
  }

  private func gauges() async {
    let metrics = service.metrics
    metrics.set("requests_running", Double(service.admission.running))
    metrics.set("requests_waiting", Double(service.admission.waiting))
    var (used, stored) = (0, 0)
    for (model, _) in await service.host.loaded() {
      used += (try? await model.model.usedCacheByteCount()) ?? 0
      guard let tiers = try? await model.model.tierStatistics() else { continue }
      // Models share the folder.
      stored = max(stored, tiers.diskByteCount)
      let label = ("model", model.name)
      for (layer, (hits, misses)) in zip(tiers.hits, tiers.misses).enumerated() {
        metrics.set("kv_page_hits", Double(hits), [label, ("layer", "\(layer)")])
        metrics.set("kv_page_misses", Double(misses), [label, ("layer", "\(layer)")])
      }
      metrics.set("kv_file_bytes_read", Double(tiers.bytesRead), [label])
      metrics.set("kv_file_bytes_written", Double(tiers.bytesWritten), [label])
    }
    metrics.set("kv_bytes", Double(used), [("tier", "memory")])
    metrics.set("kv_bytes", Double(stored), [("tier", "disk")])
    metrics.set("prefix_hit_ratio", metrics.hitRatio)
    metrics.set("resident_memory_bytes", Double(MachineMemory.residentByteCount))
    metrics.set("prefill_tokens_per_second", metrics.speed.prefill ?? 0)
    metrics.set("decode_tokens_per_second", metrics.speed.decode ?? 0)
  }
}

extension GenerationService {
  /// The model that is meant where a request names none.
  func defaultModel() async throws -> StoredModel {
    if let first = host.catalog.first { return first }
    if let loaded = await host.loaded().first { return loaded.model.stored }
    guard let newest = host.catalog.models().first else {
      throw ServerError(.notFound, "there is no model; start the server with --model")
    }
    return newest
  }
}
