// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import NIOHTTPTypes
internal import Synchronization

/// Tells who answers a client that it has gone, and closes connections that send too slowly.
final class ClientWatch: ChannelInboundHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart
  typealias OutboundOut = HTTPResponsePart

  private struct State {
    var waiting: [UUID: @Sendable () -> Void] = [:]
    var hasLeft = false
    var deadline: Scheduled<Void>?
    /// Bytes that have come since the deadline was set.
    var byteCount = 0
    /// Bytes of the request's body so far; nil where they are not limited.
    var bodyByteCount: Int? = 0
  }

  /// Bytes that earn a request as much time again.
  private static let quantum = 1 << 20

  private let state = Mutex(State())
  /// Seconds that a request may take to come in, whatever its size.
  private let seconds: Double
  /// Bytes of a body beyond which nobody reads on, not even to throw them away.
  private let bodyLimit: Int

  init(_ settings: ServerSettings) {
    seconds = settings.bodySeconds
    bodyLimit = settings.bodyLimit + (8 << 20)
  }

  /// Calls `handler` when the client leaves, at once where it has left.
  func add(_ handler: @escaping @Sendable () -> Void) -> UUID {
    let id = UUID()
    let hasLeft = state.withLock { state in
      if !state.hasLeft { state.waiting[id] = handler }
      return state.hasLeft
    }
    if hasLeft { handler() }
    return id
  }

  func remove(_ id: UUID) { state.withLock { $0.waiting[id] = nil } }

  func channelActive(context: ChannelHandlerContext) {
    expectRequest(context)
    context.fireChannelActive()
  }

  func handlerAdded(context: ChannelHandlerContext) {
    if context.channel.isActive { expectRequest(context) }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      let isBlob = head.path?.hasPrefix("/api/blobs/") ?? false
      state.withLock { $0.bodyByteCount = isBlob ? nil : 0 }
      expectRequest(context)
      if head.headerFields[.expect]?.lowercased() == "100-continue" {
        context.writeAndFlush(
          wrapOutboundOut(.head(HTTPResponse(status: .continue))), promise: nil)
      }
    case .body(let part):
      let (isEarned, isTooMuch) = state.withLock { state in
        state.byteCount += part.readableBytes
        state.bodyByteCount? += part.readableBytes
        return (state.byteCount >= Self.quantum, state.bodyByteCount ?? 0 > bodyLimit)
      }
      guard !isTooMuch else {
        context.close(promise: nil)
        return
      }
      if isEarned { expectRequest(context) }
    case .end: state.withLock { $0.deadline.take() }?.cancel()
    }
    context.fireChannelRead(data)
  }

  func channelInactive(context: ChannelHandlerContext) {
    leave()
    context.fireChannelInactive()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed? = event as? ChannelEvent { leave() }
    context.fireUserInboundEventTriggered(event)
  }

  /// A head and its body have so long to arrive.
  private func expectRequest(_ context: ChannelHandlerContext) {
    let channel = context.channel
    let deadline = context.eventLoop.scheduleTask(in: .milliseconds(Int64(seconds * 1000))) {
      channel.close(promise: nil)
    }
    state.withLock { state in
      defer { state.deadline = deadline }
      state.byteCount = 0
      return state.deadline
    }?.cancel()
  }

  private func leave() {
    let (waiting, deadline) = state.withLock { state in
      state.hasLeft = true
      defer {
        state.waiting = [:]
        state.deadline = nil
      }
      return (Array(state.waiting.values), state.deadline)
    }
    deadline?.cancel()
    for handler in waiting { handler() }
  }
}
