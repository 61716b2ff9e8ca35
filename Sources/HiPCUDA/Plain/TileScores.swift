// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
internal import HiPCompute
internal import HiPTensors

/// Exact scores by matrix units: `score_tiles.cu`.
extension PlainKernels {
  static func scoringProgram(_ element: String, headSize: Int) -> KernelProgram {
    KernelProgram("score_tiles.cu", [.init("ELEMENT", element), .init("HEAD_SIZE", headSize)])
  }

  static let scoringPrograms = [64, 96, 128, 256].flatMap { size in
    ["Half", "BFloat16"].map { scoringProgram($0, headSize: size) }
  }

  /// Whether matrix units score a stage's chunks: all keys of them, as they are stored in 16 bits.
  func scoresTiles(
    _ stage: PruningStage, _ positions: PositionScheme, _ element: ElementType
  ) -> Bool {
    usesMatrixUnits && (element == .float16 || element == .bfloat16) && stage.estimate == .exact
      && (positions == .relative || positions == .infllm) && 64 % stage.chunkSize == 0
  }

  /// Blocks that score so many chunks of a set of heads, for a range of queries.
  func scoringBlockCount(
    _ chunks: Int, _ stage: PruningStage, _ positions: PositionScheme, _ element: ElementType
  ) -> Int {
    let chunksPerBlock =
      scoresTiles(stage, positions, element)
      ? Int(IHP_PLAIN_RUN_KEYS) / stage.chunkSize : Int(IHP_PLAIN_COLUMNS)
    return (chunks + chunksPerBlock - 1) / chunksPerBlock
  }

  /// The kernel of stages of which `scoresTiles` says so.
  func tileScorer(_ keys: PlainKeys) throws(ComputeError) -> CUDAKernel {
    guard let element = keys.element.kernelName else {
      throw mistake("keys are stored in a way that kernels do not know")
    }
    return try kernels.kernel(
      "score_tiles", of: Self.scoringProgram(element, headSize: keys.shape.headSize))
  }

  /// Shared memory of `score_tiles`: rows of queries, and of keys two tiles for each of four warps.
  static func scoringByteCount(_ shape: AttentionShape) -> Int {
    let (rows, keys) = shape.headSize > 128 ? (32, 16) : (64, 32)
    return (rows + 4 * 2 * keys) * (2 * shape.headSize + 16)
  }
}
