// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute
internal import HiPKVFiles
internal import Synchronization

/// The blocks of a stored segment as a device reads them.
final class SegmentBlocks: LowerTier {
  let segment: StoredSegment
  private let damage = Atomic<Bool>(false)

  init(_ segment: StoredSegment) { self.segment = segment }

  /// Whether something that was read was not what had been stored.
  var isDamaged: Bool { damage.load(ordering: .relaxed) }

  var location: String { segment.location }

  func hasPage(_ page: Int, ofBlock block: Int) -> Bool { segment.hasPage(page, block: block) }

  func prefetch(_ pages: [HiPCompute.PageRead]) { segment.prefetch(reads(pages)) }

  private func reads(_ pages: [HiPCompute.PageRead]) -> [HiPKVFiles.PageRead] {
    pages.map {
      unsafe HiPKVFiles.PageRead(page: $0.page, block: $0.block, destination: $0.destination)
    }
  }

  func read(_ pages: [HiPCompute.PageRead]) throws(ComputeError) {
    do {
      try segment.readPages(reads(pages))
    } catch {
      // What others have removed, or nobody has kept, is computed anew as well.
      guard [.damaged, .missing, .absentPage].contains(error.code) else {
        throw ComputeError(.lowerTier, error.message, cause: error)
      }
      damage.store(true, ordering: .relaxed)
      throw ComputeError(.damaged, error.message, cause: error)
    }
  }
}
