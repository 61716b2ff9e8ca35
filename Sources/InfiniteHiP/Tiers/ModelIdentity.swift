// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPCompute
internal import HiPKVFiles
internal import HiPModelFiles
internal import HiPModels
internal import HiPTensors

/// What keys and values depend on besides text and attention: the model's weights, how they are rounded, the kernels.
package struct ModelIdentity: Sendable {
  private let name: String
  private let weights: String
  private let rounding: String
  private let kernels: String

  /// Version of what is computed: a change of numbers makes old files useless.
  private static let version = 4

  /// Of weights that lie in no file.
  package init(name: String, weights: String, kernels: String) {
    self.name = name
    self.weights = weights
    rounding = "none"
    self.kernels = kernels
  }

  /// Reads as much of the model's files as tells them from others.
  init(_ file: ModelFile, rounding: WeightFormat?, kernels: String) throws {
    name = file.name ?? URL(filePath: file.path).lastPathComponent
    weights = try Self.fingerprint(of: Self.files(of: file))
    self.rounding = rounding?.rawValue ?? "none"
    self.kernels = kernels
  }

  /// The kind of segments of a sequence.
  func kind(_ kind: PrefixKind) -> ContextKind {
    let format = kind.format
    let shape = SegmentShape(
      blockSize: format.blockSize,
      blocksPerSegment: max(1, DecoderModel.largestPrefill / format.blockSize),
      pagesPerBlock: format.pagesPerBlock, pageByteCount: format.pageByteCount,
      sketchByteCount: format.sketchByteCount)
    return ContextKind(
      shape: shape,
      description: """
        version: \(Self.version)
        model: \(name)
        weights: \(weights)
        rounding: \(rounding)
        kernels: \(kernels)
        keys and values: \(format.element.rawValue)
        attention: \(kind.policyDescription)

        """)
  }

  private static func files(of file: ModelFile) throws -> [String] {
    switch file {
    case .gguf(let file): return [file.path]
    case .folder(let folder):
      return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        .filter { $0.hasSuffix(".safetensors") || $0.hasSuffix(".json") }
        .map { folder.path + "/" + $0 }
    }
  }

  /// A digest over the sizes and evenly spread samples of files: any other training or quantisation differs in nearly
  /// every one, and gigabytes need not be read.
  private static func fingerprint(of paths: [String]) throws -> String {
    let (sample, count) = (4096, 256)
    var bytes: [UInt8] = []
    for path in paths {
      guard let file = FileHandle(forReadingAtPath: path) else {
        throw FileError(path: path, problem: "cannot be opened")
      }
      defer { try? file.close() }
      let size = Int(try file.seekToEnd())
      bytes += Array("\(size)\n".utf8)
      for index in 0..<count {
        try file.seek(toOffset: UInt64(max(0, size - sample) * index / (count - 1)))
        bytes += try file.read(upToCount: sample) ?? Data()
      }
    }
    return String(Digest256(of: bytes).hex.prefix(32))
  }
}
