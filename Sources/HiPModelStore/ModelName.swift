// SPDX-License-Identifier: Apache-2.0

internal import Foundation

/// The name of a model in a store: `host/namespace/model:tag`, of which only the model must be given.
///
/// Its parts consist of letters, digits, `_`, `.` and `-`, and never begin with a dot: no name leads out of a store.
public struct ModelName: Sendable, Hashable, CustomStringConvertible {
  /// The registry; nil: the usual one.
  public let host: String?
  /// Whose model it is.
  public let namespace: String
  /// The model.
  public let model: String
  /// Which of its variants.
  public let tag: String

  /// What stands for a namespace that is not given.
  public static let library = "library"
  /// What stands for a tag that is not given.
  public static let latest = "latest"

  /// Reads a name; nil when it is none.
  public init?(_ text: String) {
    var rest = Substring(text)
    if let scheme = rest.range(of: "://") { rest = rest[scheme.upperBound...] }
    var parts = rest.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard (1...3).contains(parts.count), var last = parts.popLast() else { return nil }
    var tag = Self.latest
    if let colon = last.lastIndex(of: ":") {
      tag = String(last[last.index(after: colon)...])
      last = String(last[..<colon])
    }
    self.init(
      host: parts.count == 2 ? parts[0] : nil, namespace: parts.last ?? Self.library, model: last,
      tag: tag)
  }

  /// Puts a name together; nil when a part has characters that names do not have.
  public init?(host: String?, namespace: String, model: String, tag: String) {
    guard [namespace, model, tag].allSatisfy({ Self.isPart($0, atMost: 80) }),
      host.map({ Self.isHost($0) }) ?? true
    else { return nil }
    (self.host, self.namespace, self.model, self.tag) = (host, namespace, model, tag)
  }

  /// What stands for the name of a file that has none.
  static let unnamed = ModelName(checked: "unnamed")

  private init(checked model: String) {
    (host, namespace, self.model, tag) = (nil, Self.library, model, Self.latest)
  }

  /// Whether a text can be a part of a name.
  public static func isPart(_ text: String, atMost length: Int) -> Bool {
    (1...length).contains(text.utf8.count) && text.utf8.first != 0x2e
      && text.utf8.allSatisfy { byte in
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x5f, 0x2e, 0x2d: true
        default: false
        }
      }
  }

  private static func isHost(_ text: String) -> Bool {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    return parts.count <= 2 && isPart(String(parts[0]), atMost: 350)
      && (parts.count == 1 || UInt16(parts[1]) != nil)
  }

  /// The name as people write it: without what stands for itself.
  public var description: String {
    let hostPart = host.map { $0 + "/" } ?? ""
    let namespacePart = host == nil && namespace == Self.library ? "" : namespace + "/"
    return "\(hostPart)\(namespacePart)\(model):\(tag)"
  }

  /// The same name without its registry.
  public var withoutHost: ModelName {
    ModelName(host: nil, namespace: namespace, model: model, tag: tag) ?? self
  }

  /// Whether both mean the same model: letters count alike, great or small.
  public func matches(_ other: ModelName) -> Bool {
    let same = (namespace, model, tag)
    return same.0.lowercased() == other.namespace.lowercased()
      && same.1.lowercased() == other.model.lowercased()
      && same.2.lowercased() == other.tag.lowercased()
      && host?.lowercased() == other.host?.lowercased()
  }
}
