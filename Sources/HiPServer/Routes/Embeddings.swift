// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
internal import HiPJSON
internal import HiPModels
internal import HiPTokenization
internal import Hummingbird
internal import InfiniteHiP

/// Embeddings in both APIs: the mean of a model's last hidden states, of length 1.
struct Embeddings: Sendable {
  let service: GenerationService
  private var settings: ServerSettings { service.settings }

  func add(to router: Router<ServerContext>) {
    router.post("/api/embed") { request, context in
      try await embed(try await request.fields(settings), context)
    }
    router.post("/api/embeddings") { request, context in
      try await embedOne(try await request.fields(settings), context)
    }
    router.post("/v1/embeddings") { request, context in
      try await embedOpenAI(try await request.fields(settings), context)
    }
  }

  /// What is embedded: texts, or ids.
  private enum Input: Sendable {
    case text(String)
    case tokens([TokenID])
  }

  private struct Found: Sendable {
    var vectors: [[Double]] = []
    var tokenCount = 0
    var loadTime = Duration.zero
  }

  private func inputs(_ fields: RequestFields) throws(ServerError) -> [Input] {
    guard let value = fields["input"] else { throw fields.wrong("input", "a string or a list") }
    if let text = value.text { return [.text(text)] }
    if let ids = value.tokens { return [.tokens(ids)] }
    var inputs: [Input] = []
    for item in value.items ?? [] {
      if let text = item.text {
        inputs.append(.text(text))
      } else if let ids = item.tokens {
        inputs.append(.tokens(ids))
      } else {
        throw fields.wrong("input", "a string, a list of strings, or lists of token ids")
      }
    }
    guard value.items != nil, inputs.count <= 2048 else {
      throw fields.wrong("input", "a string or a list of at most 2,048 of them")
    }
    return inputs
  }

  private func find(
    _ inputs: [Input], _ fields: RequestFields, _ request: ServerContext
  ) async throws -> Found {
    let dimensions = try fields.integer("dimensions", in: 1...1 << 20)
    let sizes = 1...1 << 40
    let limit =
      try fields.integer("num_ctx", in: sizes)
      ?? fields.fields("options")?.integer("num_ctx", in: sizes)
    let context = min(settings.contextLimit, limit ?? .max)
    guard let name = try fields.first(of: ["model", "name"]), !name.isEmpty else {
      throw ServerError.badRequest("model is required", parameter: "model")
    }
    let stored = try service.host.find(name)
    let start = ContinuousClock.now
    let keepAlive = try KeepAlive(fields)
    return try await service.perform(request) { [service, settings] in
      try await service.host.use(stored, keepAlive: keepAlive) { model in
        if let dimensions, dimensions > model.model.architecture.hiddenSize {
          throw ServerError.badRequest(
            "dimensions is \(dimensions); vectors of this model have \(model.model.architecture.hiddenSize)",
            parameter: "dimensions")
        }
        var found = Found(loadTime: .now - start)
        for input in inputs {
          let tokens =
            switch input {
            case .text(let text): try model.model.tokens(of: .text(text), atBeginning: true)
            case .tokens(let ids): try model.model.tokens(of: .tokens(ids), atBeginning: true)
            }
          guard !tokens.isEmpty else {
            found.vectors.append([])
            continue
          }
          guard tokens.count <= context else {
            throw ServerError.overflow(promptTokens: tokens.count, limit: context)
          }
          let session = try await model.model.makeSession(
            attention: settings.attention, contextLimit: context)
          var vector = try await session.embedding(of: tokens)
          if let dimensions, dimensions < vector.count {
            vector = Array(vector.prefix(dimensions))
            let length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
            if length > 0 { vector = vector.map { $0 / length } }
          }
          found.vectors.append(vector)
          found.tokenCount += tokens.count
        }
        return found
      }
    }
  }

  private func embed(
    _ fields: RequestFields, _ context: ServerContext
  ) async throws -> Response {
    let start = ContinuousClock.now
    let inputs = fields["input"] == nil ? [] : try inputs(fields)
    let found = try await find(inputs, fields, context)
    return .json([
      "model": fields["model"] ?? fields["name"] ?? .null,
      "embeddings": .list(found.vectors.map { .list($0.map { .number(Double(Float($0))) }) }),
      "total_duration": .integer(Int((.now - start) / .nanoseconds(1))),
      "load_duration": .integer(Int(found.loadTime / .nanoseconds(1))),
      "prompt_eval_count": .integer(found.tokenCount),
    ])
  }

  private func embedOne(
    _ fields: RequestFields, _ context: ServerContext
  ) async throws -> Response {
    let text = try fields.text("prompt") ?? ""
    let found = try await find(text.isEmpty ? [] : [.text(text)], fields, context)
    return .json(["embedding": .list((found.vectors.first ?? []).map { .number($0) })])
  }

  private func embedOpenAI(
    _ fields: RequestFields, _ context: ServerContext
  ) async throws -> Response {
    let isText: Bool
    switch try fields.text("encoding_format") {
    case nil, "float": isText = false
    case "base64": isText = true
    default: throw fields.wrong("encoding_format", "\"float\" or \"base64\"")
    }
    let found = try await find(try inputs(fields), fields, context)
    return .json([
      "object": "list",
      "data": .list(
        found.vectors.enumerated().map { index, vector in
          [
            "object": "embedding", "index": .integer(index),
            "embedding": isText
              ? .text(Self.base64(vector)) : .list(vector.map { .number(Double(Float($0))) }),
          ]
        }), "model": fields["model"] ?? .null,
      "usage": [
        "prompt_tokens": .integer(found.tokenCount), "total_tokens": .integer(found.tokenCount),
      ],
    ])
  }

  /// Single precision, the low byte first.
  private static func base64(_ vector: [Double]) -> String {
    var data = Data(capacity: vector.count * 4)
    for value in vector {
      let bits = Float(value).bitPattern
      for shift in [0, 8, 16, 24] { data.append(UInt8(truncatingIfNeeded: bits >> UInt32(shift))) }
    }
    return data.base64EncodedString()
  }
}
