// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPJSON
public import HiPTensors

/// A folder in the form of Ollama's store: manifests by name, blobs by digest.
///
/// One that is only read is never changed, and nothing in it is ever pruned.
public struct ModelStore: Sendable {
  /// The folder that holds `manifests` and `blobs`.
  public let root: String
  /// Whether models may be added and deleted.
  public let isWritable: Bool

  /// A store in a folder, which need not be there yet.
  public init(root: String, isWritable: Bool) {
    self.root = root
    self.isWritable = isWritable
  }

  private var manifests: URL { URL(filePath: root).appending(path: "manifests") }
  private var blobs: URL { URL(filePath: root).appending(path: "blobs") }

  /// Every model in it.
  public func models() -> [StoredModel] {
    var found: [StoredModel] = []
    let hosts = Self.folders(in: manifests)
    let usual = isWritable ? Self.ownHost : usualHost(of: hosts)
    for host in hosts {
      let hostName = host.lastPathComponent == usual ? nil : host.lastPathComponent
      for namespace in Self.folders(in: host) {
        for model in Self.folders(in: namespace) {
          for tag in Self.entries(of: model) where !tag.hasDirectoryPath {
            guard
              let name = ModelName(
                host: hostName, namespace: namespace.lastPathComponent,
                model: model.lastPathComponent, tag: tag.lastPathComponent),
              var stored = stored(name, tag)
            else { continue }
            stored.registry = host.lastPathComponent
            found.append(stored)
          }
        }
      }
    }
    return found
  }

  /// The registry whose models are named without it: the one that has most of the library's.
  private func usualHost(of hosts: [URL]) -> String? {
    hosts.max { left, right in libraryCount(of: left) < libraryCount(of: right) }?.lastPathComponent
  }

  private func libraryCount(of host: URL) -> Int {
    Self.folders(in: host.appending(path: ModelName.library)).count
  }

  private func stored(_ name: ModelName, _ file: URL) -> StoredModel? {
    guard let bytes = try? Data(contentsOf: file), let document = try? JSONValue(Array(bytes)),
      let manifest = Manifest(document, bytes: Array(bytes))
    else { return nil }
    let values = try? file.resourceValues(forKeys: [.contentModificationDateKey])
    let size = manifest.layers.reduce(manifest.config.size) { sum, layer in
      let (total, overflow) = sum.addingReportingOverflow(layer.size)
      return overflow ? Int.max : total
    }
    let model = manifest.layers(.model).first.map { path(of: $0.digest) }
    return StoredModel(
      name: name, place: .store(self, manifest), path: model,
      digest: Digest(of: bytes), byteCount: size,
      modified: values?.contentModificationDate ?? Date(timeIntervalSince1970: 0))
  }

  /// Where a blob is, or would be.
  public func path(of digest: Digest) -> String {
    blobs.appending(path: digest.fileName).path(percentEncoded: false)
  }

  /// Whether a blob is there.
  public func contains(_ digest: Digest) -> Bool {
    FileManager.default.fileExists(atPath: path(of: digest))
  }

  /// The bytes of a small blob, such as a template; nil when it is not there, or no small one.
  public func bytes(of digest: Digest) -> [UInt8]? {
    guard let file = try? FileHandle(forReadingFrom: URL(filePath: path(of: digest))) else {
      return nil
    }
    defer { try? file.close() }
    guard let data = try? file.read(upToCount: 1 << 24), data.count < 1 << 24 else { return nil }
    return Array(data)
  }

  // MARK: Changes

  /// Puts a small blob in.
  public func add(_ bytes: [UInt8], _ kind: Manifest.Kind) throws(FileError) -> Manifest.Layer {
    try add(bytes, mediaType: kind.mediaType)
  }

  func add(_ bytes: [UInt8], mediaType: String) throws(FileError) -> Manifest.Layer {
    let digest = Digest(of: bytes)
    if !contains(digest) { try write(Data(bytes), to: URL(filePath: path(of: digest))) }
    return Manifest.Layer(mediaType: mediaType, digest: digest, size: bytes.count)
  }

  /// A file for bytes that become a blob once their digest is known to be right.
  public func makePartialFile(for digest: Digest) throws(FileError) -> String {
    try makeFolder(blobs)
    return path(of: digest) + "-partial"
  }

  /// Makes a partial file the blob that it is said to be.
  /// - Throws: `FileError` with the code `invalid` where the digest is another one; the file is gone then.
  public func commit(_ partial: String, as digest: Digest) throws(FileError) {
    let found = try Digest(ofFile: partial)
    guard found == digest else {
      try? FileManager.default.removeItem(atPath: partial)
      throw FileError(
        path: partial, problem: "digest mismatch, expected \"\(digest)\", got \"\(found)\"")
    }
    guard unsafe rename(partial, path(of: digest)) == 0 else {
      throw FileError(.unwritable, path: path(of: digest), problem: "cannot be written")
    }
  }

  /// Gives a model a name, or another one of that name its place.
  public func write(_ manifest: Manifest, as name: ModelName) throws(FileError) {
    try write(Data(manifest.bytes), to: file(of: name))
  }

  /// Forgets a model, and the blobs that no other one here needs.
  public func delete(_ name: ModelName) throws(FileError) {
    guard let model = models().first(where: { $0.name.matches(name) }) else { return }
    do {
      try FileManager.default.removeItem(at: file(of: model.name))
    } catch {
      throw FileError(.unwritable, path: root, problem: "\(name) cannot be deleted", cause: error)
    }
    let needed = Set(models().flatMap { $0.digests })
    for digest in model.digests where !needed.contains(digest) {
      try? FileManager.default.removeItem(atPath: path(of: digest))
    }
  }

  private func file(of name: ModelName) -> URL {
    manifests.appending(path: name.host ?? Self.ownHost).appending(path: name.namespace)
      .appending(path: name.model).appending(path: name.tag)
  }

  /// The folder of models that come from no registry in particular.
  private static let ownHost = "local"

  private func write(_ bytes: Data, to file: URL) throws(FileError) {
    try makeFolder(file.deletingLastPathComponent())
    do {
      try bytes.write(to: file, options: .atomic)
    } catch {
      throw FileError(
        .unwritable, path: file.path(percentEncoded: false), problem: "cannot be written",
        cause: error)
    }
  }

  private func makeFolder(_ folder: URL) throws(FileError) {
    guard isWritable else {
      throw FileError(.unwritable, path: root, problem: "is only read; nothing is changed there")
    }
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw FileError(
        .unwritable, path: folder.path(percentEncoded: false), problem: "cannot be made",
        cause: error)
    }
  }

  private static func entries(of folder: URL) -> [URL] {
    let keys: [URLResourceKey] = [.isDirectoryKey, .contentModificationDateKey]
    return
      (try? FileManager.default.contentsOfDirectory(
        at: folder, includingPropertiesForKeys: keys, options: .skipsHiddenFiles)) ?? []
  }

  private static func folders(in folder: URL) -> [URL] {
    entries(of: folder).filter(\.hasDirectoryPath)
  }
}
