// SPDX-License-Identifier: Apache-2.0

internal import AsyncHTTPClient
internal import Foundation
public import HiPJSON
internal import HiPTensors
internal import NIOCore
internal import NIOHTTP1
internal import Synchronization

/// Fetches a model from a registry into a store, layer by layer.
///
/// A layer that was fetched in part goes on where it stood, and becomes a blob only once its digest is right.
public struct ModelPull: Sendable {
  private let store: ModelStore
  private let name: ModelName
  private let base: String

  /// What happens, in the words of Ollama's API.
  public enum Progress: Sendable, Hashable {
    case status(String)
    case layer(Digest, completed: Int, total: Int)

    /// As a line of a reply.
    public var value: JSONValue {
      switch self {
      case .status(let text): ["status": .text(text)]
      case .layer(let digest, let completed, let total):
        [
          "status": .text("pulling \(digest.hex.prefix(12))"),
          "digest": .text(digest.description), "total": .integer(total),
          "completed": .integer(completed),
        ]
      }
    }
  }

  /// Prepares to pull a model.
  /// - Parameters:
  ///   - registry: where names without a host come from, as `https://HOST`.
  ///   - isInsecure: whether a registry elsewhere may be asked without encryption.
  /// - Throws: `PullError` when it is not known where the model comes from.
  public init(
    _ name: ModelName, into store: ModelStore, registry: String?, isInsecure: Bool = false
  ) throws(PullError) {
    self.store = store
    self.name = name
    if let host = name.host {
      let isHere = ["localhost", "127.0.0.1"].contains(
        host.split(separator: ":").first.map(String.init) ?? "")
      base = (isInsecure || isHere ? "http://" : "https://") + host
    } else if let registry {
      base = registry
    } else {
      throw PullError(
        "it is not known where \"\(name)\" comes from: give its registry in the name, as "
          + "host/namespace/model:tag, or start the server with --registry URL")
    }
  }

  /// Fetches what is missing.
  /// - Throws: `PullError` or `FileError`.
  public func run(_ report: @escaping @Sendable (Progress) -> Void) async throws {
    var configuration = HTTPClient.Configuration()
    configuration.timeout.connect = .seconds(10)
    configuration.connectionPool.retryConnectionEstablishment = false
    let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    do {
      try await run(client, report)
    } catch {
      try? await client.shutdown()
      switch error {
      case is PullError, is FileError, is CancellationError: throw error
      case let error as HTTPClientError where error == .redirectCycleDetected:
        throw PullError("the registry at \(base) sends round in circles")
      case is NIOTooManyBytesError:
        throw PullError("pull model manifest: what \(base) sends is larger than any manifest")
      default:
        throw PullError("the registry at \(base) cannot be reached, or broke off: \(error)")
      }
    }
    try await client.shutdown()
  }

  private func run(
    _ client: HTTPClient, _ report: @escaping @Sendable (Progress) -> Void
  ) async throws {
    report(.status("pulling manifest"))
    let bytes = try await manifest(client)
    guard let document = try? JSONValue(bytes), let manifest = Manifest(document, bytes: bytes)
    else {
      throw PullError("pull model manifest: the registry's answer is no manifest")
    }
    for layer in manifest.layers + [manifest.config] {
      try await fetch(layer, client, report)
    }
    report(.status("verifying sha256 digest"))
    report(.status("writing manifest"))
    try store.write(manifest, as: name)
    report(.status("success"))
  }

  private var path: String { "\(base)/v2/\(name.namespace)/\(name.model)" }

  private func manifest(_ client: HTTPClient) async throws -> [UInt8] {
    var request = HTTPClientRequest(url: "\(path)/manifests/\(name.tag)")
    request.headers.add(
      name: "Accept", value: "application/vnd.docker.distribution.manifest.v2+json")
    let response = try await client.execute(request, timeout: .seconds(30))
    switch response.status.code {
    case 200: return Array(try await response.body.collect(upTo: 1 << 22).readableBytesView)
    case 404: throw PullError("pull model manifest: file does not exist")
    default: throw PullError("pull model manifest: the registry answers \(response.status.code)")
    }
  }

  private func fetch(
    _ layer: Manifest.Layer, _ client: HTTPClient,
    _ report: @escaping @Sendable (Progress) -> Void
  ) async throws {
    let digest = layer.digest
    guard !store.contains(digest) else {
      report(.layer(digest, completed: layer.size, total: layer.size))
      return
    }
    let partial = try store.makePartialFile(for: digest)
    try await PartialFiles.claim(partial)
    defer { PartialFiles.release(partial) }
    // Another pull may have brought it meanwhile.
    guard !store.contains(digest) else {
      report(.layer(digest, completed: layer.size, total: layer.size))
      return
    }
    if !FileManager.default.fileExists(atPath: partial) {
      _ = FileManager.default.createFile(atPath: partial, contents: nil)
    }
    let file = try FileHandle(forUpdating: URL(filePath: partial))
    defer { try? file.close() }
    var completed = Int(try file.seekToEnd())
    // A part that is as long as the whole, and yet no blob, is of no use.
    if completed >= layer.size { completed = 0 }
    report(.layer(digest, completed: completed, total: layer.size))
    var request = HTTPClientRequest(url: "\(path)/blobs/\(digest)")
    if completed > 0 { request.headers.add(name: "Range", value: "bytes=\(completed)-") }
    let response = try await client.execute(request, deadline: .distantFuture)
    guard [200, 206].contains(response.status.code) else {
      throw PullError("\(digest): the registry answers \(response.status.code)")
    }
    if response.status.code == 200 { completed = 0 }
    try file.truncate(atOffset: UInt64(completed))
    var told = completed
    for try await part in response.body {
      try file.write(contentsOf: Data(part.readableBytesView))
      completed += part.readableBytes
      guard completed <= layer.size else {
        throw PullError("\(digest): the registry sends more than the \(layer.size) bytes it named")
      }
      if completed - told >= 1 << 20 {
        told = completed
        report(.layer(digest, completed: completed, total: layer.size))
      }
    }
    guard completed == layer.size else {
      throw PullError("\(digest): \(completed) bytes of \(layer.size) came; pull again to go on")
    }
    report(.layer(digest, completed: completed, total: layer.size))
    try store.commit(partial, as: digest)
  }
}

/// Files that are being written: two pulls of one layer take turns.
private enum PartialFiles {
  private static let claimed = Mutex<Set<String>>([])

  static func claim(_ path: String) async throws {
    while !claimed.withLock({ $0.insert(path).inserted }) {
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  static func release(_ path: String) { claimed.withLock { _ = $0.remove(path) } }
}

/// Why a model cannot be pulled.
public struct PullError: Error, Sendable, CustomStringConvertible {
  /// What is wrong and what to do.
  public let message: String

  init(_ message: String) { self.message = message }

  /// The text to show.
  public var description: String { message }
}
