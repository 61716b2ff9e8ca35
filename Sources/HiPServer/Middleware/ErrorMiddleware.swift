// SPDX-License-Identifier: Apache-2.0

internal import HTTPTypes
internal import HiPJSON
internal import Hummingbird
internal import Logging

/// Makes replies of errors, in the form of the API that was asked, and counts requests.
struct ErrorMiddleware: RouterMiddleware {
  typealias Context = ServerContext
  let metrics: ServerMetrics
  /// What there is, by path and method.
  let routes: [(path: String, method: HTTPRequest.Method)]

  func handle(
    _ request: Request, context: ServerContext,
    next: @concurrent (Request, ServerContext) async throws -> Response
  ) async throws -> Response {
    var response: Response
    do {
      response = try await next(request, context)
    } catch let error as HTTPError {
      let path = request.uri.path
      let methods = routes.filter { Self.matches($0.path, path) }.map(\.method.rawValue)
      let known: ServerError =
        switch error.status {
        case .notFound where !methods.isEmpty:
          ServerError(.methodNotAllowed, "\(path) does not take \(request.method)")
        case .notFound: ServerError(.notFound, "there is no \(path)")
        default: ServerError(error.status, error.body ?? error.status.reasonPhrase)
        }
      response = Self.response(known, for: request)
      for field in error.headers { response.headers[field.name] = field.value }
      if !methods.isEmpty { response.headers[.allow] = methods.joined(separator: ", ") }
    } catch {
      let known = ServerError(error)
      if known.status == .internalServerError {
        context.logger.error(
          "failed", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
      }
      response = Self.response(known, for: request)
    }
    metrics.noteRequest(
      context.endpointPath ?? "none", status: response.status.code)
    return response
  }

  /// Whether a path is one of a route, whose parts in braces, and stars at its end, stand for any.
  private static func matches(_ route: String, _ path: String) -> Bool {
    let parts = route.split(separator: "/")
    let given = path.split(separator: "/")
    for (index, part) in parts.enumerated() {
      if part == "**" { return given.count > index }
      guard index < given.count, part.hasPrefix("{") || part == given[index] else { return false }
    }
    return parts.count == given.count
  }

  /// An error as the API has it that was asked.
  static func response(_ error: ServerError, for request: Request) -> Response {
    let isOpenAI = request.uri.path.hasPrefix("/v1/") || request.uri.path == "/generate"
    var response = Response.json(isOpenAI ? error.openAI : error.ollama, error.status)
    if let name = HTTPField.Name("x-should-retry"), error.status.code >= 400 {
      response.headers[name] = error.isWorthRetrying ? "true" : "false"
    }
    if error.isWorthRetrying { response.headers[.retryAfter] = "2" }
    return response
  }
}

extension ServerError {
  /// As Ollama's API has it.
  var ollama: JSONValue {
    var members = [JSONValue.Member(key: "error", value: .text(message))]
    if let code { members.append(.init(key: "code", value: .text(code))) }
    members += details.map { JSONValue.Member(key: $0.key, value: $0.value) }
    return .object(members)
  }

  /// As OpenAI's API has it.
  var openAI: JSONValue {
    let type =
      switch status.code {
      case 400, 422: "invalid_request_error"
      case 401: "authentication_error"
      case 404: "not_found_error"
      default: "api_error"
      }
    return [
      "error": .object(
        [
          .init(key: "message", value: .text(message)), .init(key: "type", value: .text(type)),
          .init(key: "param", value: parameter.map { .text($0) } ?? .null),
          .init(key: "code", value: code.map { .text($0) } ?? .null),
        ] + details.map { JSONValue.Member(key: $0.key, value: $0.value) })
    ]
  }
}
