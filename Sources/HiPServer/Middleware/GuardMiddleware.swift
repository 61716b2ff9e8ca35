// SPDX-License-Identifier: Apache-2.0

internal import Crypto
internal import Foundation
internal import HTTPTypes
internal import Hummingbird

/// Keeps out whoever must not ask: other hosts' names, pages from elsewhere, and requests without the key.
struct GuardMiddleware: RouterMiddleware {
  typealias Context = ServerContext
  let settings: ServerSettings

  /// Headers that the clients' libraries send from pages.
  private static let allowedHeaders =
    "Authorization, Content-Type, User-Agent, Accept, X-Requested-With, OpenAI-Beta, x-stainless-arch, "
    + "x-stainless-async, x-stainless-custom-poll-interval, x-stainless-helper-method, x-stainless-lang, "
    + "x-stainless-os, x-stainless-package-version, x-stainless-poll-helper, x-stainless-retry-count, "
    + "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"

  func handle(
    _ request: Request, context: ServerContext,
    next: @concurrent (Request, ServerContext) async throws -> Response
  ) async throws -> Response {
    let origin = request.headers[.origin]
    guard isAllowed(host: request.head.authority), isAllowed(origin: origin, of: request) else {
      return Response(status: .forbidden)
    }
    if request.method == .options, origin != nil {
      return Response(status: .noContent, headers: crossOrigin(origin))
    }
    guard isAuthorized(request) else {
      var response = ErrorMiddleware.response(
        ServerError(.unauthorized, "the API key is missing or wrong", code: "invalid_api_key"),
        for: request)
      response.headers[.wwwAuthenticate] = "Bearer"
      for field in crossOrigin(origin) { response.headers[field.name] = field.value }
      return response
    }
    var response = try await next(request, context)
    for field in crossOrigin(origin) { response.headers[field.name] = field.value }
    return response
  }

  /// A name that some page has made point here (DNS rebinding) is none of ours.
  private func isAllowed(host: String?) -> Bool {
    guard isLoopback(settings.host), let host, !host.isEmpty else { return true }
    return Self.isLocal(Self.name(of: host))
  }

  private func isLoopback(_ host: String) -> Bool { Self.isLocal(host) }

  private static func name(of host: String) -> String {
    if host.hasPrefix("[") { return String(host.dropFirst().prefix { $0 != "]" }) }
    return String(host.prefix { $0 != ":" })
  }

  private static func isLocal(_ name: String) -> Bool {
    let name = name.lowercased()
    if name == "localhost" || name.hasSuffix(".localhost") || name == "::1" { return true }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
  }

  /// Pages of this machine and of programs on it, the server's own, and those that were named.
  private func isAllowed(origin: String?, of request: Request) -> Bool {
    guard let origin else { return true }
    if settings.origins.contains("*") || settings.origins.contains(origin) { return true }
    guard let url = URLComponents(string: origin), let scheme = url.scheme else { return false }
    if ["app", "file", "tauri", "vscode-webview"].contains(scheme) { return true }
    let rest = String(origin.dropFirst(scheme.count + 3))
    return rest == request.head.authority || Self.isLocal(Self.name(of: rest))
  }

  private func crossOrigin(_ origin: String?) -> HTTPFields {
    guard let origin else { return [:] }
    var fields: HTTPFields = [:]
    let values = [
      ("Access-Control-Allow-Origin", origin), ("Vary", "Origin"),
      ("Access-Control-Allow-Headers", Self.allowedHeaders),
      ("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
      ("Access-Control-Max-Age", "43200"),
    ]
    for (name, value) in values { if let name = HTTPField.Name(name) { fields[name] = value } }
    return fields
  }

  /// Whoever holds no key may see the page and whether the server is well, nothing else.
  private func isAuthorized(_ request: Request) -> Bool {
    guard let key = settings.apiKey else { return true }
    let path = request.uri.path
    if path == "/health" || path == "/ui" || (path.hasPrefix("/ui/") && path != "/ui/state") {
      return true
    }
    let given = request.headers[.authorization] ?? ""
    guard given.lowercased().hasPrefix("bearer ") else { return false }
    // Digests are compared, so that the time tells nothing of the key.
    return SHA256.hash(data: Data(given.dropFirst(7).utf8)) == SHA256.hash(data: Data(key.utf8))
  }
}
