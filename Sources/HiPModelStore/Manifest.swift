// SPDX-License-Identifier: Apache-2.0

public import HiPJSON

/// What makes up a model in a store: layers by their digests.
public struct Manifest: Sendable, Hashable {
  /// The whole document as it came, members that nobody here knows included.
  public let bytes: [UInt8]
  /// The description of the model.
  public let config: Layer
  /// Its parts.
  public let layers: [Layer]

  /// A part of a model.
  public struct Layer: Sendable, Hashable {
    /// What it is.
    public let mediaType: String
    /// What it is found by.
    public let digest: Digest
    /// Bytes.
    public let size: Int

    /// Stores the parts.
    public init(mediaType: String, digest: Digest, size: Int) {
      self.mediaType = mediaType
      self.digest = digest
      self.size = size
    }

    init?(_ value: JSONValue?) {
      guard let value, let digest = value["digest"]?.text.flatMap({ Digest($0) }),
        let size = value["size"]?.integer, size >= 0
      else { return nil }
      mediaType = value["mediaType"]?.text ?? ""
      self.digest = digest
      self.size = size
    }

    var value: JSONValue {
      [
        "mediaType": .text(mediaType), "digest": .text(digest.description), "size": .integer(size),
      ]
    }
  }

  /// What a layer of a model is.
  public enum Kind: String, Sendable, CaseIterable {
    case model, template, prompt, system, params, messages, license, projector, adapter

    /// How a manifest calls it.
    public var mediaType: String { "application/vnd.ollama.image." + rawValue }
  }

  /// Reads a manifest; nil when it is none, or a layer lacks its digest or size.
  public init?(_ document: JSONValue, bytes: [UInt8]) {
    guard let config = Layer(document["config"]),
      let items = document["layers"]?.items
    else { return nil }
    self.bytes = bytes
    self.config = config
    layers = items.compactMap { Layer($0) }
    guard layers.count == items.count else { return nil }
  }

  /// Writes a manifest.
  public init(config: Layer, layers: [Layer]) {
    let document: JSONValue = [
      "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
      "config": config.value, "layers": .list(layers.map(\.value)),
    ]
    bytes = document.utf8
    self.config = config
    self.layers = layers
  }

  /// Layers of one kind, in order.
  public func layers(_ kind: Kind) -> [Layer] { layers.filter { $0.mediaType == kind.mediaType } }

  /// The media type of a config.
  static let configType = "application/vnd.docker.container.image.v1+json"
}
