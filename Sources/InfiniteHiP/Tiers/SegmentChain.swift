// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPKVFiles
internal import HiPKVStore
internal import HiPModels

/// A segment that is being written, and whose it is.
struct PendingWrite {
  let sequence: SequenceID
  let cache: SequenceCache
  let blocks: [BlockID]
  let segment: Int
  let isNamed: Bool
}

/// The segments of one sequence.
struct SegmentChain {
  let cache: SequenceCache
  /// What others must have in common to begin with them; nil: nobody does.
  var kind: ContextKind?
  /// A saved context that grows.
  var file: ContextFileWriter?
  /// Segments that the file has, or that are on their way to it.
  var fileCount = 0
  /// Digests of the leading segments that are written, or on their way.
  var digests: [Digest256] = []
  /// Segments before this one lie below, or are on their way.
  var spilledCount = 0
  /// The saved context that it began with.
  var opened: ContextFile?
  /// Why its file could not be written.
  var problem: KVFileError?
  /// Segments whose keys and values are not there.
  var broken: Set<Int> = []

  /// A segment lies in memory only, again.
  mutating func forget(from number: Int) { spilledCount = min(spilledCount, number) }
}
