// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPCompute
public import HiPModels

/// How much memory a context takes.
public struct MemoryEstimate: Sendable, Hashable {
  /// The weights, as they are read from the mapped file.
  public let weightBytes: Int
  /// Keys, values and sketches, in whole pages.
  public let cacheBytes: Int
  /// Activations, scratch memory, rotation tables, tokenizer and program.
  public let workingBytes: Int

  /// All of it.
  public var totalBytes: Int { weightBytes + cacheBytes + workingBytes }

  /// The program with its libraries, and the tokenizer's tables per token of the vocabulary.
  private static let programBytes = 26_000_000
  private static let bytesPerVocabularyEntry = 600

  /// Predicts the memory of a context of `tokens` tokens.
  public init(
    architecture: DecoderArchitecture, attention: AttentionChoice, layout: KVLayout,
    weightBytes: Int, tokens: Int, threads: Int
  ) {
    self.weightBytes = weightBytes
    cacheBytes = layout.byteCount(forTokens: tokens)
    let shape = architecture.attention
    let rows = shape.groupSize * 64
    var columns = 0
    if case .hierarchical(let pruning) = attention.policy {
      for stages in [pruning.stages, pruning.fineStages ?? []] {
        for (index, stage) in stages.enumerated() {
          var keys = index == 0 ? tokens : min(tokens, stages[index - 1].keep)
          if index == stages.count - 1, let focus = pruning.focus {
            keys = max(keys, min(tokens, focus.keep))
          }
          switch stage.estimate {
          case .halving, .tree: break
          case .moments: columns = max(columns, 2 * keys / stage.chunkSize)
          case .exact, .fourBit: columns = max(columns, keys)
          }
        }
      }
    }
    // Scratch memory grows by a quarter more than is needed.
    let scratch = ((columns + 5 * rows) * shape.headSize + columns * 32 + rows * 64) * 5 / 4
    let dense = min(
      tokens, Self.turnedLength(attention, trainedLength: architecture.trainedLength))
    let rotations = max(dense, 8192) * shape.headSize
    // A token is an id, about four bytes of text in a few copies, and its page's share of tables.
    workingBytes =
      Self.programBytes + Self.bytesPerVocabularyEntry * architecture.vocabularySize
      + architecture.activationByteCount + 4 * (scratch * threads + rotations) + 32 * tokens
  }

  /// Positions up to which rotations are kept.
  private static func turnedLength(_ attention: AttentionChoice, trainedLength: Int) -> Int {
    switch attention.policy {
    case .stretched: return .max
    case .hierarchical(let pruning):
      let schemes =
        [pruning.pruningPositions, pruning.attentionPositions]
        + pruning.exceptions.flatMap { [$0.pruningPositions, $0.attentionPositions] }
        .compactMap { $0 }
      if schemes.contains(where: { $0.needsTrainedLength || $0 == .absolute }) { return .max }
    case .dense, .streaming, .heavyHitters: break
    }
    return attention.denseLength(trainedLength: trainedLength)
  }
}
