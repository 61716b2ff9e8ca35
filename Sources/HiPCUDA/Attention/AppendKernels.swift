// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPAttention
package import HiPCompute
internal import HiPTensors

/// New keys and values that go into their sequences' pages, and the means that they complete: `append.cu`.
package struct AppendKernels {
  /// What keys are rotated by on their way.
  package enum Rotation: Sendable, Hashable {
    /// They are stored as they come.
    case none
    /// Element i with element i + half.
    case halves(Tables)
    /// Elements 2i and 2i + 1.
    case interleaved(Tables)

    /// Addresses of cosines and sines, float32 `[position][headSize / 2]`.
    package struct Tables: Sendable, Hashable {
      package var cosines: UInt64
      package var sines: UInt64

      package init(cosines: UInt64, sines: UInt64) {
        self.cosines = cosines
        self.sines = sines
      }
    }

    fileprivate var number: Int {
      switch self {
      case .none: 0
      case .halves: 1
      case .interleaved: 2
      }
    }

    fileprivate var tables: Tables? {
      switch self {
      case .none: nil
      case .halves(let tables), .interleaved(let tables): tables
      }
    }
  }

  private static let threads = 128

  private let kernels: LoadedKernels
  private let workspace: Workspace

  package init(_ kernels: LoadedKernels, _ workspace: Workspace) {
    self.kernels = kernels
    self.workspace = workspace
  }

  /// Programs that stand for all.
  package static let programs: [KernelProgram] = AttentionVariant.samples.enumerated().compactMap {
    try? program($1, rotation: $0 % 3)
  }

  private static func program(
    _ variant: AttentionVariant, rotation: Int
  ) throws(ComputeError) -> KernelProgram {
    try variant.program("append.cu", isGrouped: false, [("ROTATE", rotation)])
  }

  private struct ListKey: Hashable {
    let counts: [Int]
  }

  /// Stores new rows as the last ones of their sequences, whose key counts include them, and makes the means that
  /// they complete.
  /// - Parameters:
  ///   - newKeys: the device's address of `[tokens][kvHeads][headSize]` in the element of the pools.
  ///   - newValues: the same.
  ///   - counts: new tokens of each sequence of the tables; their rows follow one another.
  package func append(
    newKeys: UInt64, newValues: UInt64, counts: [Int], to keys: PagedKeys,
    _ tables: SequenceTables, rotation: Rotation = .none, on stream: CUDAStream
  ) throws(ComputeError) {
    precondition(counts.count == tables.sequenceCount)
    try enqueue(
      newKeys: newKeys, newValues: newValues, counts: counts, to: keys, tables, rotation, on: stream
    )
  }

  /// Makes the means of keys that are stored already: those that the last `counts` keys of each sequence complete.
  package func completeMeans(
    counts: [Int], of keys: PagedKeys, _ tables: SequenceTables, on stream: CUDAStream
  ) throws(ComputeError) {
    precondition(counts.count == tables.sequenceCount && keys.means != 0)
    try enqueue(newKeys: 0, newValues: 0, counts: counts, to: keys, tables, .none, on: stream)
  }

  private func enqueue(
    newKeys: UInt64, newValues: UInt64, counts: [Int], to keys: PagedKeys,
    _ tables: SequenceTables, _ rotation: Rotation, on stream: CUDAStream
  ) throws(ComputeError) {
    guard let most = counts.max(), most > 0 else { return }
    let variant = AttentionVariant(shape: keys.shape, element: keys.element)
    let kernel = try kernels.kernel(
      "append", of: Self.program(variant, rotation: rotation.number))
    let firstTokens = try workspace.list(ListKey(counts: counts), on: stream) {
      counts.reduce(into: [0 as Int32]) { $0.append(($0.last ?? 0) + Int32(clamping: $1)) }
    }
    let arguments = ihp_append(
      new_keys: newKeys, new_values: newValues, keys: keys.keys, values: keys.values,
      means: keys.means, mean_scales: keys.meanScales, page_table: tables.pages,
      first_tokens: firstTokens.address, key_counts: tables.keyCounts,
      cosines: rotation.tables?.cosines ?? 0, sines: rotation.tables?.sines ?? 0,
      kv_heads: variant.kvHeads, table_stride: Int32(clamping: tables.stride),
      page_count: Int32(clamping: keys.pageCount))
    // Pages that the longest addition touches, wherever in a page it begins.
    let pages = (most + PagedKeys.pageSize - 2) / PagedKeys.pageSize + 1
    let shape = LaunchShape(
      grid: LaunchShape.Extent(pages, keys.shape.kvHeads, tables.sequenceCount),
      block: LaunchShape.Extent(Self.threads), overlapsPrevious: kernels.overlaps)
    try kernel.launch(shape, on: stream, arguments)
  }
}
