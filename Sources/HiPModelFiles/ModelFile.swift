// SPDX-License-Identifier: Apache-2.0

public import HiPTensors

/// A model as it lies on a disk: a GGUF file, or a Hugging Face folder.
public enum ModelFile: Sendable {
  case gguf(GGUFFile)
  case folder(HuggingFaceFolder)

  /// Opens what is at `path`.
  public init(path: String) throws(FileError) {
    for ending in [".safetensors", ".json", ".bin"] where path.hasSuffix(ending) {
      throw FileError(
        path: path, problem: "is a part of a model's folder; give the folder, or a GGUF file")
    }
    self =
      MappedFile.isFolder(path)
      ? .folder(try HuggingFaceFolder(path: path)) : .gguf(try GGUFFile(path: path))
  }

  /// Where it lies.
  public var path: String {
    switch self {
    case .gguf(let file): file.path
    case .folder(let folder): folder.path
    }
  }

  /// Its weights.
  public var weights: any WeightSource {
    switch self {
    case .gguf(let file): file
    case .folder(let folder): folder.weights
    }
  }

  /// A tensor as its file has it.
  public struct TensorSummary: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// The name of its element type.
    public let type: String
    /// Its sizes in the order of the file.
    public let shape: [Int]
  }

  /// Every tensor.
  public var tensors: [TensorSummary] {
    switch self {
    case .gguf(let file):
      file.tensors.map { TensorSummary(name: $0.name, type: $0.type.name, shape: $0.dimensions) }
    case .folder(let folder):
      folder.weights.names.compactMap { folder.weights.tensor(named: $0) }
        .map { TensorSummary(name: $0.name, type: $0.type, shape: $0.shape) }
    }
  }

  /// What it calls itself; nil where it does not say so.
  public var name: String? {
    switch self {
    case .gguf(let file):
      if case .text(let name) = file.metadata.values["general.name"] { name } else { nil }
    case .folder(let folder):
      if case .text(let name) = folder.config.values["_name_or_path"] { name } else { nil }
    }
  }

  /// Bytes of its weights.
  public var weightByteCount: Int {
    switch self {
    case .gguf(let file): file.tensors.reduce(0) { $0 + ($1.bytes?.range.count ?? 0) }
    case .folder(let folder): folder.weights.byteCount
    }
  }
}
