// SPDX-License-Identifier: Apache-2.0

internal import Hummingbird
internal import Logging
internal import NIOCore

/// What is known of a request besides its head and body.
struct ServerContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  /// The connection that it came by.
  let channel: any Channel

  init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
  }
}

extension ServerContext {
  /// Tells when the client closes the connection.
  func clientWatch() async throws -> ClientWatch {
    try await channel.pipeline.handler(type: ClientWatch.self).get()
  }
}
