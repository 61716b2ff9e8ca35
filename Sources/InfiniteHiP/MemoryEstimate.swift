// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPModels

/// How much memory a context takes.
public struct MemoryEstimate: Sendable, Hashable {
  /// The weights, mapped or rounded.
  public let weightBytes: Int
  /// Keys, values and sketches, in whole blocks.
  public let cacheBytes: Int
  /// Activations, the device's working memory, tokenizer and program.
  public let workingBytes: Int

  /// All of it.
  public var totalBytes: Int { weightBytes + cacheBytes + workingBytes }

  /// The program with its libraries, and the tokenizer's tables per token of the vocabulary.
  private static let programBytes = 26_000_000
  private static let bytesPerVocabularyEntry = 600

  init(_ model: ModelDescription, _ use: SequenceUse, weightBytes: Int, deviceBytes: Int) {
    self.weightBytes = weightBytes
    cacheBytes = use.format.byteCount(forTokens: use.length)
    // A token is an id, about four bytes of text in a few copies, and its block's share of tables.
    workingBytes =
      Self.programBytes + Self.bytesPerVocabularyEntry * model.architecture.vocabularySize
      + model.architecture.activationByteCount + deviceBytes + 32 * use.length
  }
}
