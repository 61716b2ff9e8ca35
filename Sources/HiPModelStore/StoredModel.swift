// SPDX-License-Identifier: Apache-2.0

public import Foundation
public import HiPJSON
public import HiPTensors

/// A model that can be loaded by its name.
public struct StoredModel: Sendable {
  /// What it is called.
  public let name: ModelName
  /// The folder of its registry in a store, which its name need not have.
  var registry: String?
  /// Where it comes from.
  public let place: Place
  /// Its GGUF file or Hugging Face folder; nil where a manifest names none.
  public let path: String?
  /// SHA-256 of the manifest; of a file by itself, of its path, size and time.
  public let digest: Digest
  /// Bytes on the disk.
  public let byteCount: Int
  /// When it was put there.
  public let modified: Date

  /// Where a model comes from.
  public enum Place: Sendable {
    /// A store, with all that its manifest names.
    case store(ModelStore, Manifest)
    /// A file or folder by itself.
    case file
  }

  init(
    name: ModelName, place: Place, path: String?, digest: Digest, byteCount: Int, modified: Date
  ) {
    self.name = name
    self.place = place
    self.path = path
    self.digest = digest
    self.byteCount = byteCount
    self.modified = modified
  }

  /// A file that has no name of its own.
  public init(probing path: String) {
    self.init(
      name: .unnamed, place: .file, path: path, digest: Digest(of: Array(path.utf8)), byteCount: 0,
      modified: Date(timeIntervalSince1970: 0))
  }

  /// The text of a layer; nil where there is none.
  public func text(_ kind: Manifest.Kind) -> String? {
    guard case .store(let store, let manifest) = place else { return nil }
    return manifest.layers(kind).last.flatMap { store.bytes(of: $0.digest) }
      .map { String(decoding: $0, as: UTF8.self) }
  }

  /// Texts of all layers of a kind.
  public func texts(_ kind: Manifest.Kind) -> [String] {
    guard case .store(let store, let manifest) = place else { return [] }
    return manifest.layers(kind).compactMap { store.bytes(of: $0.digest) }
      .map { String(decoding: $0, as: UTF8.self) }
  }

  /// Throws where a layer that shapes its answers is not there, or is not what it should be.
  public func checkLayers() throws(FileError) {
    guard case .store(let store, let manifest) = place else { return }
    func refuse(_ problem: String) -> FileError { FileError(path: "\(name)", problem: problem) }
    for kind in [Manifest.Kind.template, .prompt, .system, .params, .messages] {
      for layer in manifest.layers(kind) {
        guard let bytes = store.bytes(of: layer.digest) else {
          throw refuse(
            "its \(kind.rawValue) layer, \(layer.digest), is missing from the store; pull the model again"
          )
        }
        guard kind == .params || kind == .messages else { continue }
        let value = try? JSONValue(bytes)
        guard kind == .params ? value?.members != nil : value?.items != nil else {
          throw refuse(
            "its \(kind.rawValue) layer, \(layer.digest), is damaged; pull the model again")
        }
      }
    }
  }

  /// The Go template that its conversations are written by; nil: its file's own.
  public var template: String? { text(.template) ?? text(.prompt) }

  /// Options that hold unless a request says otherwise.
  public var parameters: JSONValue {
    text(.params).flatMap { try? JSONValue(Array($0.utf8)) } ?? .object([])
  }

  /// The description that a registry keeps of it.
  public var config: JSONValue {
    guard case .store(let store, let manifest) = place,
      let bytes = store.bytes(of: manifest.config.digest)
    else { return .object([]) }
    return (try? JSONValue(bytes)) ?? .object([])
  }

  /// Blobs that it consists of.
  var digests: [Digest] {
    guard case .store(_, let manifest) = place else { return [] }
    return [manifest.config.digest] + manifest.layers.map(\.digest)
  }
}
