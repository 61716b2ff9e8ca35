// SPDX-License-Identifier: Apache-2.0

internal import HTTPTypes
internal import HiPJSON
internal import HiPTokenization
internal import Hummingbird
internal import InfiniteHiP
internal import NIOCore

extension Response {
  /// A JSON document.
  static func json(_ value: JSONValue, _ status: HTTPResponse.Status = .ok) -> Response {
    Response(
      status: status, headers: [.contentType: "application/json; charset=utf-8"],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: value.utf8)))
  }

  /// Bytes of some type.
  static func bytes(_ bytes: [UInt8], type: String) -> Response {
    Response(
      status: .ok, headers: [.contentType: type],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }

  /// A stream of lines of JSON.
  static func lines(_ lines: AsyncStream<JSONValue>) -> Response {
    Response(
      status: .ok, headers: [.contentType: "application/x-ndjson"],
      body: ResponseBody { writer in
        for await value in lines { try await writer.write(ByteBuffer(bytes: value.utf8 + [0x0a])) }
        try await writer.finish(nil)
      })
  }

  /// What an answer comes to, as it comes.
  static func stream(
    _ run: AnswerRun, type: String, _ context: ServerContext,
    _ makeEncoder: @escaping @Sendable () -> any ReplyEncoder
  ) -> Response {
    Response(
      status: .ok, headers: [.contentType: type, .cacheControl: "no-cache"],
      body: ResponseBody { writer in
        // Whoever cannot be written to has left.
        defer { run.cancel() }
        let watch = try await context.clientWatch()
        let id = watch.add { run.cancel() }
        defer { watch.remove(id) }
        var encoder = makeEncoder()
        var events = run.events.makeAsyncIterator()
        var failure: (any Error)?
        while failure == nil {
          let next: (choice: Int, event: AnswerEvent)?
          do {
            next = try await events.next()
          } catch {
            next = nil
            failure = error
          }
          guard let (choice, event) = next else { break }
          let bytes = encoder.encode(event, choice: choice)
          if !bytes.isEmpty { try await writer.write(ByteBuffer(bytes: bytes)) }
        }
        let last = failure.map { encoder.encode(ServerError($0)) } ?? encoder.end
        try await writer.write(ByteBuffer(bytes: last))
        try await writer.finish(nil)
      })
  }
}

/// Writes what happens to an answer as one API has it.
protocol ReplyEncoder {
  mutating func encode(_ event: AnswerEvent, choice: Int) -> [UInt8]
  /// An error behind the beginning of the reply.
  func encode(_ error: ServerError) -> [UInt8]
  /// What stands at the end of a whole reply.
  var end: [UInt8] { get }
}

/// The whole of an answer.
struct WholeAnswer: Sendable {
  var content = ""
  var thinking = ""
  var calls: [ToolCall] = []
  var tokens: [GeneratedToken] = []
  var end: AnswerEnd?

  mutating func add(_ event: AnswerEvent) {
    switch event {
    case .progress, .tick: break
    case .parts(let parts, let tokens):
      self.tokens += tokens
      for part in parts {
        switch part {
        case .content(let text): content += text
        case .thinking(let text): thinking += text
        case .call(let call): calls.append(call)
        }
      }
    case .finished(let end): self.end = end
    }
  }
}

extension AnswerRun {
  /// Waits for all choices; ends early where the client leaves.
  func answers(_ count: Int, _ context: ServerContext) async throws -> [WholeAnswer] {
    let watch = try await context.clientWatch()
    let id = watch.add { [self] in cancel() }
    defer { watch.remove(id) }
    var answers = [WholeAnswer](repeating: WholeAnswer(), count: count)
    for try await (choice, event) in events { answers[choice].add(event) }
    return answers
  }
}
