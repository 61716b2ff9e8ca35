// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
internal import HiPAttention
internal import HiPJSON
internal import HiPModelStore
internal import Hummingbird
internal import InfiniteHiP

/// The page at `/ui`, out of the binary, and what it shows of the server.
struct PageRoutes: Sendable {
  let service: GenerationService

  /// Nothing from elsewhere, nothing within the document.
  private static let policy =
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

  func add(to router: Router<ServerContext>) {
    router.get("/ui") { _, _ in try Self.file("index.html") }
    router.get("/ui/state") { _, _ in await state() }
    router.get("/ui/{name}") { _, context in try Self.file(context.parameters.get("name") ?? "") }
  }

  /// Files by their names: there are no others, whatever a path says.
  private static func file(_ name: String) throws -> Response {
    guard let bytes = PageFiles.all[name] else {
      throw ServerError(.notFound, "there is no such file")
    }
    let type =
      name.hasSuffix(".css") ? "text/css" : name.hasSuffix(".js") ? "text/javascript" : "text/html"
    var response = Response.bytes(bytes, type: type + "; charset=utf-8")
    let headers = [
      ("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff"),
      ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-cache"),
    ]
    for (key, value) in headers {
      if let field = HTTPField.Name(key) { response.headers[field] = value }
    }
    return response
  }

  private func state() async -> Response {
    let loaded = await service.host.loaded()
    var models: [JSONValue] = []
    for stored in service.host.catalog.models() {
      let card = try? await service.host.card(stored)
      models.append([
        "name": .text("\(stored.name)"),
        "loaded": .flag(loaded.contains { $0.model.stored.name == stored.name }),
        "trained_length": .integer(card?.contextLength ?? 0),
        "context_limit": .integer(service.settings.contextLimit),
      ])
    }
    var (used, limit, stored) = (0, 0, 0)
    var tiers: [JSONValue] = []
    for (model, _) in loaded {
      used += (try? await model.model.usedCacheByteCount()) ?? 0
      limit += model.model.cacheLimit
      guard let statistics = try? await model.model.tierStatistics() else { continue }
      stored = max(stored, statistics.diskByteCount)
      tiers.append([
        "model": .text(model.name),
        "hit_rate": statistics.hitRate.map { .number($0) } ?? .null,
        "hits": .list(statistics.hits.map { .integer($0) }),
        "misses": .list(statistics.misses.map { .integer($0) }),
        "file_bytes_read": .integer(statistics.bytesRead),
        "file_bytes_written": .integer(statistics.bytesWritten),
      ])
    }
    let speed = service.metrics.speed
    return .json([
      "version": .text(OllamaModels.version), "models": .list(models),
      "attention": .list(AttentionChoice.presets.map { .text($0.name) }),
      "memory": [
        "resident_bytes": .integer(MachineMemory.residentByteCount), "kv_bytes": .integer(used),
        "kv_limit_bytes": .integer(limit), "kv_disk_bytes": .integer(stored),
      ],
      "tiers": .list(tiers),
      "speed": [
        "prefill_tokens_per_second": speed.prefill.map { .number($0) } ?? .null,
        "decode_tokens_per_second": speed.decode.map { .number($0) } ?? .null,
      ],
      "requests": [
        "running": .integer(service.admission.running),
        "waiting": .integer(service.admission.waiting),
      ],
    ])
  }
}

/// The page's files, which the build has put into the binary.
enum PageFiles {
  static let all: [String: [UInt8]] = [
    "index.html": PackageResources.index_html, "style.css": PackageResources.style_css,
    "api.js": PackageResources.api_js, "app.js": PackageResources.app_js,
    "chat.js": PackageResources.chat_js, "document.js": PackageResources.document_js,
    "format.js": PackageResources.format_js, "passages.js": PackageResources.passages_js,
    "progress.js": PackageResources.progress_js, "stream.js": PackageResources.stream_js,
  ]
}
