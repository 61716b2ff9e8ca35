// SPDX-License-Identifier: Apache-2.0

internal import Crypto
public import Foundation
public import HiPTensors

/// The SHA-256 of some bytes: what a store names them by.
public struct Digest: Sendable, Hashable, CustomStringConvertible {
  /// 64 hexadecimal digits.
  public let hex: String

  /// Reads `sha256:` and 64 hexadecimal digits; nil when it is anything else.
  public init?(_ text: String) {
    for mark in ["sha256:", "sha256-"] where text.hasPrefix(mark) {
      let hex = text.dropFirst(mark.count)
      guard hex.utf8.count == 64,
        hex.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
      else { return nil }
      self.hex = String(hex)
      return
    }
    return nil
  }

  /// The digest of bytes.
  public init(of bytes: some DataProtocol) { self.init(SHA256.hash(data: bytes)) }

  fileprivate init(_ digest: SHA256.Digest) {
    hex = digest.map { byte in
      let digits = String(byte, radix: 16)
      return digits.utf8.count == 1 ? "0" + digits : digits
    }.joined()
  }

  /// The digest of a file.
  public init(ofFile path: String) throws(FileError) {
    var summer = Summer()
    do {
      let file = try FileHandle(forReadingFrom: URL(filePath: path))
      defer { try? file.close() }
      while let part = try file.read(upToCount: 1 << 22), !part.isEmpty { summer.add(part) }
    } catch {
      throw FileError(.unreadable, path: path, problem: "cannot be read", cause: error)
    }
    self = summer.digest
  }

  /// As requests and manifests write it.
  public var description: String { "sha256:" + hex }

  /// The name of its file in a store.
  var fileName: String { "sha256-" + hex }

  /// Adds bytes up as they come.
  struct Summer {
    private var hash = SHA256()
    mutating func add(_ bytes: some DataProtocol) { hash.update(data: bytes) }
    var digest: Digest { Digest(hash.finalize()) }
  }
}
