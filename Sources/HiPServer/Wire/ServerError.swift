// SPDX-License-Identifier: Apache-2.0

internal import HTTPTypes
internal import HiPAttention
internal import HiPGrammar
internal import HiPJSON
internal import HiPModelStore
internal import HiPTemplates
internal import HiPTensors
internal import InfiniteHiP

/// Why a request is not answered as it was meant, in terms that both APIs can tell.
struct ServerError: Error, Sendable {
  let status: HTTPResponse.Status
  let message: String
  /// OpenAI's word for it; nil where it has none.
  var code: String?
  /// The member of the request that is wrong.
  var parameter: String?
  /// More members of the error.
  var details: [(key: String, value: JSONValue)] = []

  init(_ status: HTTPResponse.Status, _ message: String, code: String? = nil) {
    self.status = status
    self.message = message
    self.code = code
  }

  static func badRequest(_ message: String, parameter: String? = nil) -> ServerError {
    var error = ServerError(.badRequest, message)
    error.parameter = parameter
    return error
  }

  static func noModel(_ name: String) -> ServerError {
    ServerError(.notFound, "model '\(name)' not found", code: "model_not_found")
  }

  /// Both numbers stand in the text: some clients show nothing else.
  static func overflow(promptTokens: Int, limit: Int) -> ServerError {
    var error = ServerError(
      .badRequest,
      "the prompt has \(promptTokens) tokens and exceeds the context length of \(limit) tokens, which also holds "
        + "the answer; nothing was cut. Shorten the prompt, or raise the limit (num_ctx, or --context of the server)",
      code: "context_length_exceeded")
    error.details = [("n_prompt_tokens", .integer(promptTokens)), ("n_ctx", .integer(limit))]
    return error
  }

  static let shuttingDown = ServerError(
    .serviceUnavailable, "the server is shutting down; what was read so far is lost with it",
    code: "shutting_down")

  static let queueFull = ServerError(
    .serviceUnavailable, "server busy, please try again: as many requests wait as may wait",
    code: "queue_full")

  /// What an error of the engine, a file or a template comes to.
  init(_ error: any Error) {
    switch error {
    case let error as ServerError: self = error
    case let error as InfiniteHiPError: self.init(engine: error)
    case let error as GrammarError:
      self.init(.badRequest, "the schema cannot be held to: \(error)", code: "invalid_schema")
    case let error as TemplateError:
      self.init(.badRequest, "the chat template refuses the conversation: \(error)")
    case let error as PolicyError: self.init(.badRequest, "attention: \(error)")
    case let error as JSONError: self.init(.badRequest, "\(error)")
    case let error as PullError: self.init(.badGateway, error.message)
    case let error as FileError:
      self.init(error.code == .missing ? .notFound : .internalServerError, "\(error)")
    case is CancellationError:
      self.init(HTTPResponse.Status(code: 499, reasonPhrase: "Client Closed Request"), "cancelled")
    default: self.init(.internalServerError, "\(error)")
    }
  }

  private init(engine error: InfiniteHiPError) {
    switch error.code {
    case .contextExceeded(let needed, let limit):
      self = .overflow(promptTokens: needed, limit: limit)
    case .outOfMemory:
      self.init(.serviceUnavailable, error.message, code: "out_of_memory")
    case .request, .busy: self.init(.badRequest, error.message)
    case .model, .notFinite, .lowerTier, .device: self.init(.internalServerError, error.message)
    }
  }

  /// Whether sending the same request again can help.
  var isWorthRetrying: Bool { status == .serviceUnavailable && code != "out_of_memory" }
}
