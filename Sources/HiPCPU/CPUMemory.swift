// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
internal import HiPCompute
internal import HiPKVStore
internal import HiPTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Memory of the process, or of a mapped file, as a device buffer.
final class CPUBuffer: DeviceBuffer {
  let byteCount: Int
  /// Written by the backend's calls only, one at a time.
  nonisolated(unsafe) let bytes: UnsafeMutableRawPointer
  private let owner: Owner

  private enum Owner: ~Copyable, Sendable {
    case allocation(UncheckedBuffer)
    case file(MappedFile)
  }

  /// Keeps an allocation alive; nobody reads through it.
  private struct UncheckedBuffer: ~Copyable, @unchecked Sendable {
    let buffer: HostBuffer<UInt8>
  }

  init(byteCount: Int) {
    self.byteCount = byteCount
    let buffer = HostBuffer<UInt8>(count: byteCount)
    // A HostBuffer is never empty.
    bytes = UnsafeMutableRawPointer(buffer.elements.baseAddress.unsafelyUnwrapped)
    owner = .allocation(UncheckedBuffer(buffer: buffer))
  }

  init(_ mapped: MappedRange) {
    byteCount = mapped.range.count
    // Weights are read only; a buffer has one kind of pointer for all its uses.
    bytes = UnsafeMutableRawPointer(
      mutating: mapped.file.bytes.baseAddress.unsafelyUnwrapped + mapped.range.lowerBound)
    owner = .file(mapped.file)
  }
}

extension DeviceTensor {
  /// The first byte.
  ///
  /// The CPU backend is only ever handed its own buffers.
  var bytes: UnsafeMutableRawPointer {
    unsafeDowncast(buffer, to: CPUBuffer.self).bytes + offset
  }

  var floats: UnsafeMutablePointer<Float> {
    precondition(element == .float32, "a float32 tensor was expected")
    return bytes.assumingMemoryBound(to: Float.self)
  }

  func floats(row: Int) -> UnsafeMutablePointer<Float> { floats + row * columns }
}

/// Pages in slabs that are taken as needed, so that a context costs what it holds.
final class CPUPageStore: PageStore {
  let layout: KVLayout
  /// Touched by the engine's thread only.
  nonisolated(unsafe) private var slabs: [Slab?] = []
  /// Which pages are provided.
  nonisolated(unsafe) private var isProvided: [Bool] = []

  init(layout: KVLayout) { self.layout = layout }

  /// Pages of a slab: about 16 MB, so that large memory pages can hold them.
  private var slabLength: Int { max(1, (16 << 20) / layout.pageByteCount) }

  func provide(_ page: PageID) throws(ComputeError) {
    let (slab, _) = page.index.quotientAndRemainder(dividingBy: slabLength)
    while slabs.count <= slab { slabs.append(nil) }
    while isProvided.count < slabs.count * slabLength { isProvided.append(false) }
    if slabs[slab] == nil {
      slabs[slab] = try Slab(byteCount: slabLength * layout.pageByteCount)
    }
    isProvided[page.index] = true
  }

  func discard(_ page: PageID) {
    guard isProvided.indices.contains(page.index) else { return }
    isProvided[page.index] = false
    let slab = page.index / slabLength
    let pages = slab * slabLength..<(slab + 1) * slabLength
    if !isProvided[pages].contains(true) { slabs[slab] = nil }
  }

  func copy(from source: PageID, to destination: PageID) {
    address(destination).copyMemory(from: address(source), byteCount: layout.pageByteCount)
  }

  func address(_ page: PageID) -> UnsafeMutableRawPointer {
    let (slab, place) = page.index.quotientAndRemainder(dividingBy: slabLength)
    guard isProvided[page.index], let memory = slabs[slab] else {
      preconditionFailure("page \(page.index) was not provided")
    }
    return memory.start + place * layout.pageByteCount
  }

  func makeTable() -> any DevicePageTable { CPUPageTable(store: self) }
}

/// Memory straight from the system: nothing is committed before it is written, and large memory
/// pages are asked for, because selected keys lie scattered over all of it.
private final class Slab {
  let start: UnsafeMutableRawPointer
  private let mapping: UnsafeMutableRawPointer
  private let mappedByteCount: Int

  private static let alignment = 2 << 20

  init(byteCount: Int) throws(ComputeError) {
    mappedByteCount = byteCount + Self.alignment
    let anonymous = MAP_PRIVATE | MAP_ANON
    guard let mapping = mmap(nil, mappedByteCount, PROT_READ | PROT_WRITE, anonymous, -1, 0),
      mapping != MAP_FAILED
    else {
      throw ComputeError(
        .outOfMemory(neededBytes: byteCount),
        "there is no memory for \(byteCount >> 20) MB more of keys and values; shorten the text")
    }
    self.mapping = mapping
    start = mapping.alignedUp(toMultipleOf: Self.alignment)
    #if canImport(Glibc) || canImport(Musl)
      // Advice: without it everything works, only slower.
      _ = madvise(start, byteCount, MADV_HUGEPAGE)
    #endif
  }

  deinit { munmap(mapping, mappedByteCount) }
}

/// Addresses of a sequence's pages.
final class CPUPageTable: DevicePageTable {
  let store: CPUPageStore
  /// Touched by the engine's thread, and read by the threads of its loops.
  nonisolated(unsafe) private(set) var addresses: [UnsafePointer<UInt8>?] = []

  init(store: CPUPageStore) { self.store = store }

  func set(slot: Int, to page: PageID) {
    let address = UnsafePointer(store.address(page).assumingMemoryBound(to: UInt8.self))
    if slot == addresses.count { addresses.append(address) } else { addresses[slot] = address }
  }

  func removeLast(_ count: Int) { addresses.removeLast(count) }
}

/// What `SelectCall`s leave behind for one sequence in one layer.
final class CPUSelectionState: SelectionState {
  /// First positions of the selected blocks, `[query block][owner]`, ascending.
  ///
  /// An owner is a set of heads that share a selection.
  nonisolated(unsafe) var blocks: [[[Int32]]] = []
  /// The share of the softmax mass that they hold, `[query block][owner]`; empty where it is not known.
  nonisolated(unsafe) var held: [[Float]] = []
  /// The share of it that each selected block holds, `[query block][owner][block]`; empty lists where they are
  /// not known.
  nonisolated(unsafe) var shares: [[[Float]]] = []
  /// What the stage before each stage but the first kept in the last decoding step that computed it,
  /// `[stage][owner]`.
  nonisolated(unsafe) var stageInputs: [[Candidates]] = []

  /// Keeps what a stage starts from in decoding.
  func keep(_ chunks: [Candidates], asInputOf stage: Int) {
    while stageInputs.count <= stage { stageInputs.append([]) }
    stageInputs[stage] = chunks
  }

  /// Keys that H2O still holds, per key-value head; empty before its first step.
  nonisolated(unsafe) var kept: [[HeavyHitters.KeptKey]] = []

  func copy() -> any SelectionState {
    let state = CPUSelectionState()
    state.blocks = blocks
    state.held = held
    state.shares = shares
    state.stageInputs = stageInputs
    state.kept = kept
    return state
  }

  func clear() {
    blocks = []
    held = []
    shares = []
    stageInputs = []
    kept = []
  }

  func count(into votes: inout PassageVotes) {
    for (blocks, shares) in zip(blocks.joined(), shares.joined()) {
      votes.count(blocks, shares: shares)
    }
  }

  func download(shape: AttentionShape, pruning: HierarchicalPruning) -> BlockSelection {
    let headsPerOwner = shape.heads / pruning.sharing.ownerCount(shape)
    return BlockSelection(
      blockSize: pruning.blockSize,
      blocks: (0..<shape.heads).map { head in blocks.map { $0[head / headsPerOwner] } },
      held: pruning.sharpening > 0 && !held.isEmpty
        ? (0..<shape.heads).map { head in held.map { $0[head / headsPerOwner] } } : nil)
  }

  func upload(
    _ selection: BlockSelection, shape: AttentionShape, pruning: HierarchicalPruning
  ) {
    let headsPerOwner = shape.heads / pruning.sharing.ownerCount(shape)
    let owners = stride(from: 0, to: shape.heads, by: headsPerOwner)
    blocks = (selection.blocks.first ?? []).indices.map { block in
      owners.map { selection.blocks[$0][block] }
    }
    held =
      selection.held.map { held in
        blocks.indices.map { block in owners.map { held[$0][block] } }
      } ?? []
    shares = []
  }
}

extension HeadSharing {
  /// Number of sets of heads that share a selection.
  func ownerCount(_ shape: AttentionShape) -> Int {
    switch self {
    case .allHeads: 1
    case .group: shape.kvHeads
    case .head: shape.heads
    }
  }
}
