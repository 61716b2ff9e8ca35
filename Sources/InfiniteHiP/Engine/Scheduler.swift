// SPDX-License-Identifier: Apache-2.0

package import HiPModels

/// Which sequences the next step serves: all that decode, and prompts as far as a step has room.
///
/// A slice is taken whole or not at all, so that what a sequence computes never depends on who else waits.
/// Sequences that were served go to the end of the line.
package struct Scheduler: Sendable {
  private var line: [SequenceID] = []
  /// Rows of decoding in a step.
  private let decodeRows: Int

  /// A scheduler with room for so many rows in a step.
  package init(decodeRows: Int = DecoderModel.largestDecode) { self.decodeRows = decodeRows }

  /// Sequences that have something to do.
  package var count: Int { line.count }

  /// Puts a sequence that has something to do at the end of the line.
  package mutating func add(_ id: SequenceID) { if !line.contains(id) { line.append(id) } }

  /// Takes a sequence out.
  package mutating func remove(_ id: SequenceID) { line.removeAll { $0 == id } }

  /// The next step, of what each sequence in line wants; nil when none wants anything.
  /// - Parameter prefillRows: rows of prompts in it; the first prompt in line is served even with more.
  package mutating func next(
    prefillRows: Int = DecoderModel.largestPrefill, _ slice: (SequenceID) -> SequenceSlice?
  ) -> StepPlan? {
    var slices: [SequenceSlice] = []
    var (prefill, decode) = (0, 0)
    var isPrefillFull = false
    for id in line {
      guard let wanted = slice(id) else { continue }
      if wanted.isDecoding {
        guard decode < decodeRows else { continue }
        decode += 1
      } else {
        // Nobody overtakes: a long prompt would wait for ever.
        isPrefillFull =
          isPrefillFull || (prefill > 0 && prefill + wanted.tokens.count > prefillRows)
        guard !isPrefillFull else { continue }
        prefill += wanted.tokens.count
      }
      slices.append(wanted)
    }
    let served = Set(slices.map(\.sequence))
    line = line.filter { !served.contains($0) } + line.filter { served.contains($0) }
    return slices.isEmpty ? nil : StepPlan(slices)
  }
}
