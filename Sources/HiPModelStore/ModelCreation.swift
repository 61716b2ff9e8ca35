// SPDX-License-Identifier: Apache-2.0

internal import Foundation
public import HiPJSON
public import HiPTensors

/// A model that is made in a store out of others and of layers.
public struct ModelCreation: Sendable {
  /// A model that it begins with.
  public var base: StoredModel?
  /// Blobs of GGUF files.
  public var files: [Digest] = []
  /// A Go template in place of the file's own.
  public var template: String?
  /// What a conversation begins with.
  public var system: String?
  /// Under which terms it may be used.
  public var licenses: [String] = []
  /// Options that hold unless a request says otherwise.
  public var parameters: JSONValue?
  /// What every conversation begins with.
  public var messages: JSONValue?

  /// Nothing yet.
  public init() {}

  /// Writes it under a name.
  /// - Returns: what was done, in the words of Ollama's API.
  public func write(
    as name: ModelName, into store: ModelStore, config: JSONValue
  ) throws(FileError) -> [String] {
    var statuses: [String] = []
    var layers: [Manifest.Layer] = []
    func use(_ layer: Manifest.Layer, isNew: Bool) {
      layers.append(layer)
      statuses.append("\(isNew ? "creating new" : "using existing") layer \(layer.digest)")
    }
    for digest in files {
      let size = try? URL(filePath: store.path(of: digest)).resourceValues(
        forKeys: [.fileSizeKey]
      ).fileSize
      use(
        Manifest.Layer(
          mediaType: Manifest.Kind.model.mediaType, digest: digest, size: size ?? 0),
        isNew: false)
    }
    if let base {
      for layer in try shared(base, store) where files.isEmpty || !layer.isModel {
        guard !isReplaced(layer) else { continue }
        use(layer, isNew: false)
      }
    }
    func add(_ text: String?, _ kind: Manifest.Kind) throws(FileError) {
      guard let text else { return }
      use(try store.add(Array(text.utf8), kind), isNew: true)
    }
    try add(template, .template)
    try add(system, .system)
    for license in licenses { try add(license, .license) }
    if let parameters {
      // What the base has and nobody changes stays.
      let old = (base?.parameters.members ?? []).filter { parameters[$0.key] == nil }
      try add(JSONValue.object(old + (parameters.members ?? [])).json, .params)
    }
    try add(messages?.json, .messages)
    let configLayer = try store.add(config.utf8, mediaType: Manifest.configType)
    try store.write(Manifest(config: configLayer, layers: layers), as: name)
    return statuses + ["writing manifest", "success"]
  }

  private func isReplaced(_ layer: Manifest.Layer) -> Bool {
    let replaced: [Manifest.Kind] =
      (template == nil ? [] : [.template, .prompt]) + (system == nil ? [] : [.system])
      + (licenses.isEmpty ? [] : [.license]) + (parameters == nil ? [] : [.params])
      + (messages == nil ? [] : [.messages])
    return replaced.contains { $0.mediaType == layer.mediaType }
  }

  /// The layers of a model, whose blobs are in the store then.
  private func shared(
    _ base: StoredModel, _ store: ModelStore
  ) throws(FileError) -> [Manifest.Layer] {
    switch base.place {
    case .store(let source, let manifest):
      for layer in manifest.layers { try share(source.path(of: layer.digest), layer.digest, store) }
      return manifest.layers
    case .file:
      guard let path = base.path, path.hasSuffix(".gguf") else {
        throw FileError(
          .unsupported, path: base.path ?? "\(base.name)",
          problem: "is no GGUF file; only those can be put into a store")
      }
      let digest = try Digest(ofFile: path)
      try share(path, digest, store)
      return [
        Manifest.Layer(
          mediaType: Manifest.Kind.model.mediaType, digest: digest, size: base.byteCount)
      ]
    }
  }

  /// Puts a file into the store under its digest: the same bytes where the disk can, a copy elsewhere.
  private func share(
    _ path: String, _ digest: Digest, _ store: ModelStore
  ) throws(FileError) {
    guard !store.contains(digest) else { return }
    let partial = try store.makePartialFile(for: digest)
    try? FileManager.default.removeItem(atPath: partial)
    guard FileManager.default.fileExists(atPath: path) else {
      throw FileError(
        .missing, path: path, problem: "is missing, which the model needs; pull the model again")
    }
    if (try? FileManager.default.linkItem(atPath: path, toPath: store.path(of: digest))) != nil {
      return
    }
    do {
      try FileManager.default.copyItem(atPath: path, toPath: partial)
    } catch {
      throw FileError(
        .unwritable, path: store.root, problem: "\(path) cannot be copied here", cause: error)
    }
    try store.commit(partial, as: digest)
  }
}

extension Manifest.Layer {
  fileprivate var isModel: Bool { mediaType == Manifest.Kind.model.mediaType }
}
