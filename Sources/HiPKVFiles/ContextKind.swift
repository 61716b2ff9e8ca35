// SPDX-License-Identifier: Apache-2.0

/// What segments must agree in to be of use to one another: the model, the format of keys and values, the policy.
public struct ContextKind: Sendable, Hashable {
  /// The SHA-256 of the description and the shape.
  public let digest: Digest256
  /// The measures of its segments.
  public let shape: SegmentShape
  /// One `key: value` per line.
  public let description: String

  /// A line of the description.
  private static let shapeKey = "segment: "

  /// The most bytes that a description may have.
  static let byteLimit = 1 << 16

  /// Creates a kind.
  /// - Parameter description: what makes its segments what they are, one `key: value` per line, in an order that is
  ///   always the same; at most 60,000 bytes.
  public init(shape: SegmentShape, description: String) {
    precondition(description.utf8.count <= 60_000, "the description is too long")
    self.shape = shape
    self.description = description
    let text = Self.text(shape, description)
    digest = Digest256(of: Array("InfiniteHiP context 1\n".utf8) + Array(text.utf8))
  }

  /// The text that files hold: a line with the shape, and the description.
  var text: String { Self.text(shape, description) }

  private static func text(_ shape: SegmentShape, _ description: String) -> String {
    shapeKey + shape.numbers.map(String.init).joined(separator: " ") + "\n" + description
  }

  /// Reads the text of a file; nil when it is none.
  init?(text: String) {
    guard text.utf8.count <= Self.byteLimit, text.hasPrefix(Self.shapeKey),
      let end = text.utf8.firstIndex(of: UInt8(ascii: "\n"))
    else { return nil }
    let numbers = text[..<end].dropFirst(Self.shapeKey.count)
      .split(separator: " ", omittingEmptySubsequences: false).map { Int($0) ?? -1 }
    let description = text[text.utf8.index(after: end)...]
    guard let shape = SegmentShape(numbers: numbers), description.utf8.count <= 60_000 else {
      return nil
    }
    self.init(shape: shape, description: String(description))
  }

  /// The name of its folder.
  var folderName: String { String(digest.hex.prefix(16)) }

  /// The lines in which another kind differs, for messages.
  public func differences(from other: ContextKind) -> String {
    let own = lines
    let others = other.lines
    let gone = others.filter { !own.contains($0) }
    let new = own.filter { !others.contains($0) }
    return "it has \"\(gone.joined(separator: "; "))\" where \"\(new.joined(separator: "; "))\" "
      + "is asked for"
  }

  private var lines: [String] {
    let sizes = zip(
      ["block size", "blocks", "pages of a block", "bytes of a page", "bytes of sketches"],
      shape.numbers)
    return description.split(separator: "\n").map(String.init) + sizes.map { "\($0): \($1)" }
  }
}
