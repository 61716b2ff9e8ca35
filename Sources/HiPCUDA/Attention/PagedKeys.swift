// SPDX-License-Identifier: Apache-2.0

package import HiPAttention
package import HiPTensors

/// Keys and values of one layer as the attention kernels find them: pools of pages of 64 tokens.
///
/// Clear the pools when they are made: what is masked is multiplied by a weight of 0, and 0 times what memory holds by
/// chance may be no number.
package struct PagedKeys: Sendable, Hashable {
  /// The device's address of the keys, `[page][kvHead][64][headSize]`.
  package var keys: UInt64
  /// The device's address of the values, the same.
  package var values: UInt64
  /// The device's address of the means that selections scan, `[kvHead][page][2][headSize]` bytes with a sign: of each
  /// half of a page's keys; 0: there are none.
  package var means: UInt64
  /// The device's address of what the means' elements are multiples of, `[kvHead][page][2]` bfloat16; 0 without means.
  package var meanScales: UInt64
  /// Pages of the pools.
  package var pageCount: Int
  package var shape: AttentionShape
  /// How keys, values, queries and outputs are stored: `float16` or `bfloat16`.
  package var element: ElementType

  /// Tokens of a page.
  package static let pageSize = 64
  /// Keys that a mean stands for.
  package static let keysPerMean = 32

  package init(
    keys: UInt64, values: UInt64, means: UInt64 = 0, meanScales: UInt64 = 0, pageCount: Int,
    shape: AttentionShape, element: ElementType
  ) {
    self.keys = keys
    self.values = values
    self.means = means
    self.meanScales = meanScales
    self.pageCount = pageCount
    self.shape = shape
    self.element = element
  }
}

/// Where the pages of a batch's sequences are, and how many keys they hold: in the device's memory, so that a graph
/// that was recorded at one length runs at another.
package struct SequenceTables: Sendable, Hashable {
  /// The device's address of page numbers, 32-bit integers `[sequence][stride]`.
  package var pages: UInt64
  /// Entries of a sequence: its pages at most.
  package var stride: Int
  /// The device's address of numbers of keys, 32-bit integers `[sequence]`, those of this step included.
  package var keyCounts: UInt64
  package var sequenceCount: Int

  package init(pages: UInt64, stride: Int, keyCounts: UInt64, sequenceCount: Int) {
    self.pages = pages
    self.stride = stride
    self.keyCounts = keyCounts
    self.sequenceCount = sequenceCount
  }

  /// The most keys that a sequence can have.
  package var capacity: Int { stride * PagedKeys.pageSize }
}

/// Queries of consecutive tokens of one sequence.
package struct QueryRun: Sendable, Hashable {
  /// Which of the tables'.
  package var sequence: Int
  /// The first one's row in the tensors of queries and outputs.
  package var firstRow: Int
  package var count: Int
  /// The first one's position in the sequence.
  package var position: Int

  package init(sequence: Int, firstRow: Int, count: Int, position: Int) {
    self.sequence = sequence
    self.firstRow = firstRow
    self.count = count
    self.position = position
  }

  /// Queries that share a list of blocks.
  package static let blockSize = 64

  /// Blocks of its queries, the last one perhaps unfinished.
  package var blockCount: Int { (count + Self.blockSize - 1) / Self.blockSize }
}

/// Addresses of queries and of what becomes of them, in the element of the keys.
package struct AttentionRows: Sendable, Hashable {
  /// `[tokens][heads][headSize]`, not scaled.
  package var queries: UInt64
  /// `[tokens][heads][headSize]`.
  package var outputs: UInt64
  /// float32 `[tokens][heads]`: the logarithm of the softmax's sum; 0: not wanted.
  package var logSums: UInt64
  /// float32 `[heads]`: a logit that takes part in the softmax without a value; 0: none.
  package var sinkLogits: UInt64

  package init(queries: UInt64, outputs: UInt64, logSums: UInt64 = 0, sinkLogits: UInt64 = 0) {
    self.queries = queries
    self.outputs = outputs
    self.logSums = logSums
    self.sinkLogits = sinkLogits
  }
}

/// The keys that every query sees, whatever is selected.
package struct Reach: Sendable, Hashable {
  /// So many first ones.
  package var sink: Int
  /// So many last ones, the query's own included.
  package var window: Int

  package init(sink: Int, window: Int) {
    self.sink = sink
    self.window = min(window, Self.dense.window)
  }

  private init(everything: Int) {
    sink = 0
    window = everything
  }

  /// All of them.
  package static let dense = Reach(everything: 1 << 30)
}

/// Lists of selected blocks in the device's memory.
///
/// A row is a block of 64 queries, runs one after the other; in decoding, a sequence.
package struct SelectedBlocks: Sendable, Hashable {
  /// 32-bit integers `[row][kvHead][capacity]`: first position / `blockKeys`, ascending.
  package var blocks: UInt64
  /// 32-bit integers `[row][kvHead]`: how many.
  package var counts: UInt64
  /// Entries of a list.
  package var capacity: Int
  /// Keys of a block.
  package var blockKeys: Int

  package init(blocks: UInt64, counts: UInt64, capacity: Int, blockKeys: Int) {
    self.blocks = blocks
    self.counts = counts
    self.capacity = capacity
    self.blockKeys = blockKeys
  }
}
