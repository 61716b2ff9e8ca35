// SPDX-License-Identifier: Apache-2.0

package import HiPAttention
package import HiPCompute

/// Votes of selections for passages: what they are counted from is fetched at the end of a step.
package final class PlainVotes {
  private let memory: DeviceMemory
  private var ballots: [Ballot] = []
  private var pinned: PinnedBuffer?

  /// What one selection has left.
  private struct Ballot {
    let number: Int
    let focus: Focus
    let sink, blockSize: Int
    /// Lists, and blocks that each has room for.
    let count, capacity: Int
    /// `[list][capacity]`, `[list]` and `[list][capacity]`.
    let lists, counts, shares: CUDABuffer

    var buffers: [CUDABuffer] { [lists, counts, shares] }
  }

  /// Nobody has voted.
  package init(_ memory: DeviceMemory) { self.memory = memory }

  /// Takes what a selection has left as votes; later selections may write over it.
  package func take(
    _ selection: LayerSelection, _ pruning: HierarchicalPruning, number: Int, on stream: CUDAStream
  ) throws(ComputeError) {
    guard let focus = pruning.focus, let lists = selection.lists, let counts = selection.counts,
      let shares = selection.shares
    else { return }
    ballots.append(
      Ballot(
        number: number, focus: focus, sink: pruning.sink, blockSize: pruning.blockSize,
        count: selection.blockCount * selection.ownerCount, capacity: selection.capacity,
        lists: try copied(lists, memory, on: stream),
        counts: try copied(counts, memory, on: stream),
        shares: try copied(shares, memory, on: stream)))
  }

  /// Enqueues that everything is fetched.
  package func fetch(on stream: CUDAStream) throws(ComputeError) {
    let byteCount = ballots.reduce(0) { $0 + $1.buffers.reduce(0) { $0 + $1.byteCount } }
    guard byteCount > 0 else { return }
    let target: PinnedBuffer
    if let pinned, unsafe pinned.bytes.count >= byteCount {
      target = pinned
    } else {
      target = try memory.allocatePinned(byteCount: byteCount)
      pinned = target
    }
    var offset = 0
    for ballot in ballots {
      for buffer in ballot.buffers where buffer.byteCount > 0 {
        try stream.copy(buffer.all, to: target[offset..<offset + buffer.byteCount])
        offset += buffer.byteCount
      }
    }
  }

  /// Counts what was fetched, once that is done, and forgets it.
  package func count(into votes: inout [Int: PassageVotes]) {
    defer { ballots = [] }
    guard let pinned else { return }
    let words = unsafe UnsafeRawBufferPointer(pinned.bytes)
    var offset = 0
    func next<Number: BitwiseCopyable>(_ count: Int, _ type: Number.Type) -> [Number] {
      defer { offset += 4 * count }
      return (0..<count).map { unsafe words.load(fromByteOffset: offset + 4 * $0, as: type) }
    }
    for ballot in ballots {
      let lists = next(ballot.count * ballot.capacity, Int32.self)
      let counts = next(ballot.count, Int32.self)
      let shares = next(ballot.count * ballot.capacity, Float.self)
      var all = votes[ballot.number] ?? PassageVotes(ballot.focus, sink: ballot.sink)
      for list in 0..<ballot.count {
        let first = list * ballot.capacity
        let range = first..<first + min(ballot.capacity, max(0, Int(counts[list])))
        // Nothing where the last stage had no choice.
        guard shares[range].contains(where: { $0 > 0 }) else { continue }
        all.count(
          lists[range].map { $0 * Int32(ballot.blockSize) }, shares: Array(shares[range]))
      }
      votes[ballot.number] = all
    }
  }

  /// Forgets what a step that failed has left.
  package func clear() { ballots = [] }
}
