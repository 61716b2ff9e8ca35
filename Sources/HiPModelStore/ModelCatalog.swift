// SPDX-License-Identifier: Apache-2.0

internal import Foundation

/// All models that can be named: single files, folders of files, and stores.
public struct ModelCatalog: Sendable {
  /// Where models are added: created, copied and pulled ones.
  public let own: ModelStore
  /// Stores that are only read.
  public let stores: [ModelStore]
  /// Folders of GGUF files and of Hugging Face folders.
  public let folders: [String]
  /// Files and folders that were named one by one; the first is what is meant where no name is given.
  public let files: [String]
  /// What is meant where no name is given, and no file was named.
  public let preferred: ModelName?

  /// Stores the parts.
  public init(
    own: ModelStore, stores: [ModelStore] = [], folders: [String] = [], files: [String] = [],
    preferred: ModelName? = nil
  ) {
    self.own = own
    self.stores = stores
    self.folders = folders
    self.files = files
    self.preferred = preferred
  }

  /// Every model, the newest first; of equal names the first found counts.
  public func models() -> [StoredModel] {
    var found: [StoredModel] = []
    for model in files.compactMap(single) + folders.flatMap(inFolder) + own.models()
      + stores.flatMap({ $0.models() })
    where !found.contains(where: { $0.name.matches(model.name) }) { found.append(model) }
    return found.sorted { $0.modified > $1.modified }
  }

  /// The model that a text names; nil when there is none.
  ///
  /// A tag may be left out, and so may the ending `.gguf` of a file.
  public func model(named text: String) -> StoredModel? {
    let text = text.hasSuffix(".gguf") ? String(text.dropLast(5)) : text
    guard let name = ModelName(text) else { return nil }
    let models = models()
    // Where no registry is named, one that has such a model is meant.
    return models.first { $0.name.matches(name) }
      ?? models.first { stored in
        stored.name.withoutHost.matches(name.withoutHost)
          && (name.host == nil || name.host?.lowercased() == stored.registry?.lowercased())
      }
  }

  /// The model that is meant where no name is given.
  public var first: StoredModel? {
    files.first.flatMap(single) ?? preferred.flatMap { model(named: "\($0)") }
  }

  private func inFolder(_ path: String) -> [StoredModel] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.sorted().compactMap { name in
      let full = path + "/" + name
      let isModel =
        name.hasSuffix(".gguf")
        || FileManager.default.fileExists(atPath: full + "/config.json")
      return isModel ? single(full) : nil
    }
  }

  private func single(_ path: String) -> StoredModel? {
    let url = URL(filePath: path).resolvingSymlinksInPath()
    // A file of several parts is one model, named by the first.
    var stem = url.lastPathComponent
    if stem.hasSuffix(".gguf") { stem.removeLast(5) }
    if let part = stem.range(of: "-00001-of-") {
      stem = String(stem[..<part.lowerBound])
    } else if stem.contains("-of-0"), stem.contains("-000") {
      return nil
    }
    let usable = stem.map { ModelName.isPart(String($0), atMost: 4) || $0 == "." ? $0 : "-" }
    guard
      let name = ModelName(
        host: nil, namespace: ModelName.library,
        model: String(String(usable).drop { $0 == "." }.prefix(80)), tag: ModelName.latest),
      let values = try? url.resourceValues(forKeys: [.fileSizeKey, .contentModificationDateKey])
    else { return nil }
    let modified = values.contentModificationDate ?? Date(timeIntervalSince1970: 0)
    let size = values.fileSize ?? 0
    let mark = "\(url.path(percentEncoded: false)) \(size) \(modified.timeIntervalSince1970)"
    return StoredModel(
      name: name, place: .file, path: url.path(percentEncoded: false),
      digest: Digest(of: Array(mark.utf8)), byteCount: size, modified: modified)
  }
}
