// SPDX-License-Identifier: Apache-2.0

public import HiPJSON
public import HiPTensors

/// A folder as Hugging Face publishes models: configuration, weights and tokenizer.
public struct HuggingFaceFolder: Sendable {
  /// The folder.
  public let path: String
  /// `config.json`, with the names of nested values joined by dots.
  public let config: Metadata
  /// `generation_config.json`; empty where there is none.
  public let generation: Metadata
  /// The weights.
  public let weights: FolderWeights

  /// Opens a folder and checks its weights.
  /// - Parameter config: name of the configuration's file.
  public init(path: String, config name: String = "config.json") throws(FileError) {
    self.path = path
    guard let config = try Self.json(path, name) else {
      throw FileError(
        .missing, path: path,
        problem: "has no \(name); give a folder of a Hugging Face model, or a GGUF file")
    }
    self.config = Metadata(path: Self.join(path, name), json: config)
    generation = Metadata(
      path: Self.join(path, "generation_config.json"),
      json: try Self.json(path, "generation_config.json") ?? .object([]))
    weights = try FolderWeights(folder: path)
  }

  /// A JSON document of the folder; nil where there is none.
  public func json(_ name: String) throws(FileError) -> JSONValue? { try Self.json(path, name) }

  /// The bytes of a file of the folder; nil where there is none.
  public func bytes(_ name: String) throws(FileError) -> [UInt8]? {
    try Self.bytes(Self.join(path, name))
  }

  static func join(_ folder: String, _ name: String) -> String {
    folder.hasSuffix("/") ? folder + name : folder + "/" + name
  }

  static func bytes(_ path: String) throws(FileError) -> [UInt8]? {
    do {
      let file = try MappedFile(path: path)
      return unsafe Array(file.bytes)
    } catch {
      if error.code == .missing { return nil }
      throw error
    }
  }

  static func json(_ folder: String, _ name: String) throws(FileError) -> JSONValue? {
    let path = join(folder, name)
    guard let bytes = try bytes(path) else { return nil }
    do {
      return try JSONValue(bytes)
    } catch {
      throw FileError(path: path, problem: "\(error)", cause: error)
    }
  }
}

extension Metadata {
  /// Takes the members of an object, those of nested ones with the names joined by dots; what is null is absent.
  init(path: String, json: JSONValue) {
    var values: [String: MetadataValue] = [:]
    var nulls: Set<String> = []
    func add(_ json: JSONValue, _ name: String) {
      switch json {
      case .null: nulls.insert(name)
      case .flag(let flag): values[name] = .flag(flag)
      case .integer(let integer): values[name] = .integer(Int64(integer))
      case .number(let number): values[name] = .number(number)
      case .text(let text): values[name] = .text(text)
      case .object(let members):
        if !name.isEmpty { values[name] = .other("an object") }
        for member in members {
          add(member.value, name.isEmpty ? member.key : name + "." + member.key)
        }
      case .list(let items):
        if let integers = items.allOf(\.integer) {
          values[name] = .integers(integers.map(Int64.init))
        } else if let numbers = items.allOf(\.number) {
          values[name] = .numbers(numbers)
        } else if let flags = items.allOf(\.flag) {
          values[name] = .flags(flags)
        } else if let texts = items.allOf(\.text) {
          values[name] = .texts(texts)
        } else {
          values[name] = .other("a list of different things")
        }
      }
    }
    add(json, "")
    self.init(path: path, values: values, nulls: nulls)
  }
}

extension [JSONValue] {
  /// All items as values of one kind; nil where one is another.
  fileprivate func allOf<Value>(_ kind: (JSONValue) -> Value?) -> [Value]? {
    let values = compactMap(kind)
    return values.count == count ? values : nil
  }
}
