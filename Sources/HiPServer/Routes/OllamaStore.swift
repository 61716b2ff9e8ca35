// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
internal import HiPJSON
internal import HiPModelStore
internal import HiPTemplates
internal import HiPTensors
internal import HiPTokenization
internal import Hummingbird
internal import NIOCore

/// Ollama's routes that bring models in: blobs, create, pull.
struct OllamaStore: Sendable {
  let service: GenerationService
  private var store: ModelStore { service.host.catalog.own }
  private var settings: ServerSettings { service.settings }

  func add(to router: Router<ServerContext>) {
    router.head("/api/blobs/{digest}") { _, context in
      let digest = try digest(context)
      return Response(status: isKnown(digest) ? .ok : .notFound)
    }
    router.post("/api/blobs/{digest}") { request, context in
      try await receive(request, try digest(context))
    }
    router.post("/api/create") { request, _ in try await create(try await request.fields(settings))
    }
    router.post("/api/pull") { request, _ in try await pull(try await request.fields(settings)) }
    router.post("/api/push") { _, _ -> Response in
      throw ServerError(.notImplemented, "models cannot be pushed from here")
    }
  }

  private func digest(_ context: ServerContext) throws -> Digest {
    guard let digest = Digest(context.parameters.get("digest") ?? "") else {
      throw ServerError.badRequest("a digest is sha256: and 64 hexadecimal digits")
    }
    return digest
  }

  /// Whether a blob is here, or in a store that is read.
  private func isKnown(_ digest: Digest) -> Bool { store.contains(digest) }

  private func receive(_ request: Request, _ digest: Digest) async throws -> Response {
    guard !isKnown(digest) else { return Response(status: .ok) }
    let partial = try store.makePartialFile(for: digest) + "-\(UUID().uuidString)"
    try await write(request.body, to: partial)
    try commit(partial, digest)
    return Response(status: .created)
  }

  private func write(_ body: RequestBody, to path: String) async throws {
    guard FileManager.default.createFile(atPath: path, contents: nil) else {
      throw FileError(.unwritable, path: path, problem: "cannot be written")
    }
    let file = try FileHandle(forWritingTo: URL(filePath: path))
    do {
      for try await part in body { try file.write(contentsOf: Data(part.readableBytesView)) }
      try file.close()
    } catch {
      try? file.close()
      try? FileManager.default.removeItem(atPath: path)
      throw error
    }
  }

  private func commit(_ partial: String, _ digest: Digest) throws {
    do {
      try store.commit(partial, as: digest)
    } catch {
      throw error.code == .invalid ? ServerError.badRequest(error.problem) : error
    }
  }

  private func name(_ fields: RequestFields) throws(ServerError) -> ModelName {
    guard let text = try fields.first(of: ["model", "name"]), let name = ModelName(text) else {
      throw .badRequest("invalid model name", parameter: "model")
    }
    return name
  }

  private func create(_ fields: RequestFields) async throws -> Response {
    let name = try name(fields)
    if let quantise = try fields.text("quantize"), !quantise.isEmpty {
      throw ServerError.badRequest(
        "models are not quantised here; load them with --weights, or give a quantised file",
        parameter: "quantize")
    }
    for key in ["adapters", "draft_files"] where fields[key]?.members?.isEmpty == false {
      throw ServerError.badRequest("\(key) are not supported", parameter: key)
    }
    var creation = ModelCreation()
    if let from = try fields.text("from"), !from.isEmpty {
      creation.base = try service.host.find(from)
    }
    for member in fields["files"]?.members ?? [] {
      guard let digest = member.value.text.flatMap({ Digest($0) }) else {
        throw ServerError.badRequest("files: \"\(member.key)\" has no digest", parameter: "files")
      }
      guard isKnown(digest) else {
        throw ServerError(.notFound, "blob \(digest) not found; send it to /api/blobs/\(digest)")
      }
      creation.files.append(digest)
    }
    guard creation.base != nil || !creation.files.isEmpty else {
      throw ServerError.badRequest("neither 'from' or 'files' was specified")
    }
    guard creation.files.count <= 1 else {
      throw ServerError.badRequest("a model of several files cannot be made; join them first")
    }
    creation.template = try fields.text("template")
    if let template = creation.template { _ = try GoTemplate(template) }
    creation.system = try fields.text("system")
    creation.licenses = try fields.texts("license") ?? []
    creation.parameters = try fields.fields("parameters")?.object
    if let messages = fields["messages"] {
      _ = try ChatMessage.list(fields)
      creation.messages = messages
    }
    if let parameters = creation.parameters { _ = try OllamaOptions(parameters) }
    let config = try config(creation)
    let plan = creation
    return try await reply(fields) { [store] report in
      report(.status("parsing GGUF"))
      for status in try plan.write(as: name, into: store, config: config) {
        report(.status(status))
      }
    }
  }

  /// What a store says of a model, from its file.
  private func config(_ creation: ModelCreation) throws -> JSONValue {
    let path = creation.files.first.map { store.path(of: $0) } ?? creation.base?.path
    guard let path else { return .object([]) }
    let probe = StoredModel(probing: path)
    let card: ModelCard
    do {
      card = try ModelCard(probe)
    } catch let error as FileError where creation.base == nil {
      throw ServerError.badRequest("the blob is no model that can be read: it \(error.problem)")
    }
    return [
      "model_format": .text(card.format), "model_family": .text(card.family),
      "model_families": [.text(card.family)],
      "model_type": .text(ModelCard.size(card.parameterCount)),
      "file_type": .text(card.quantisation), "context_length": .integer(card.contextLength),
      "embedding_length": .integer(card.embeddingLength), "architecture": "amd64", "os": "linux",
    ]
  }

  private func pull(_ fields: RequestFields) async throws -> Response {
    let pull = try ModelPull(
      try name(fields), into: store, registry: settings.registry,
      isInsecure: fields.flag("insecure") ?? false)
    return try await reply(fields) { try await pull.run($0) }
  }

  /// What takes its time, and tells how far it is.
  private typealias Work =
    @Sendable (@escaping @Sendable (ModelPull.Progress) -> Void) async throws -> Void

  /// A reply in lines, or its last one.
  private func reply(
    _ fields: RequestFields, _ work: @escaping Work
  ) async throws -> Response {
    guard try fields.flag("stream") ?? true else {
      try await work { _ in }
      return .json(["status": "success"])
    }
    let (lines, continuation) = AsyncStream<JSONValue>.makeStream()
    let task = Task {
      do {
        try await work { continuation.yield($0.value) }
      } catch {
        continuation.yield(ServerError(error).ollama)
      }
      continuation.finish()
    }
    continuation.onTermination = { if case .cancelled = $0 { task.cancel() } }
    return .lines(lines)
  }
}
