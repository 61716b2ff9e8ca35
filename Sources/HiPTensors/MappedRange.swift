// SPDX-License-Identifier: Apache-2.0

/// A part of a mapped file.
public struct MappedRange: Sendable {
  /// The file, which stays mapped as long as this lives.
  public let file: MappedFile
  /// Which of its bytes.
  public let range: Range<Int>

  /// Names bytes of `file`, which must lie inside it.
  public init(file: MappedFile, range: Range<Int>) {
    precondition(unsafe range.lowerBound >= 0 && range.upperBound <= file.bytes.count)
    self.file = file
    self.range = range
  }
}
