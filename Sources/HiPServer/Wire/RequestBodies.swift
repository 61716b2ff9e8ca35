// SPDX-License-Identifier: Apache-2.0

internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

extension Request {
  /// The body as an object; its size is limited.
  func fields(_ settings: ServerSettings) async throws -> RequestFields {
    try RequestFields(body: await bytes(settings))
  }

  /// The whole body.
  func bytes(_ settings: ServerSettings) async throws -> [UInt8] {
    let tooLarge = ServerError(
      .contentTooLarge,
      "the body has more than \(settings.bodyLimit) bytes, the limit of this server (--max-body)")
    if let length = headers[.contentLength].flatMap({ Int($0) }), length > settings.bodyLimit {
      throw tooLarge
    }
    var bytes: [UInt8] = []
    do {
      for try await part in body {
        bytes += part.readableBytesView
        guard bytes.count <= settings.bodyLimit else { throw tooLarge }
      }
    } catch let error as ServerError {
      throw error
    } catch {
      throw ServerError.badRequest("the body did not arrive: \(error)")
    }
    return bytes
  }
}
