// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import HiPKVFiles
internal import Synchronization

/// A segment on its way down.
struct SegmentWrite: @unchecked Sendable {
  /// What the engine knows it by.
  let number: Int
  /// Its pages are held, and stay where they are, until it is written.
  let contents: SegmentContents
  let target: SegmentTarget
}

/// Where segments go.
enum SegmentTarget: Sendable {
  /// To others, who may begin with them.
  case folder(CacheFolder, ContextKind)
  /// To a saved context.
  case file(ContextFileWriter)
  /// Out of memory, for as long as the process runs.
  case scratch(ScratchFile, CacheFolder)

  func write(_ contents: SegmentContents) throws(KVFileError) -> StoredSegment {
    switch self {
    case .folder(let folder, let kind): try folder.write(contents, kind: kind)
    case .file(let writer): try writer.append(contents)
    case .scratch(let file, let folder): try folder.write(contents, to: file)
    }
  }
}

/// Writes segments behind the engine's back, in their order.
final class SegmentWriter: Sendable {
  typealias Outcome = (number: Int, result: Result<StoredSegment, KVFileError>)

  private let queue = DispatchQueue(label: "infinitehip.segments", qos: .utility)
  private let done = Mutex<[Outcome]>([])
  private let pending = Atomic<Int>(0)
  private let arrival = DispatchSemaphore(value: 0)

  /// Segments that have been begun and not been taken back.
  var pendingCount: Int { pending.load(ordering: .acquiring) }

  func begin(_ write: SegmentWrite) {
    pending.add(1, ordering: .acquiringAndReleasing)
    queue.async { [self] in
      let result: Result<StoredSegment, KVFileError>
      do throws(KVFileError) {
        result = .success(try write.target.write(write.contents))
      } catch {
        result = .failure(error)
      }
      done.withLock { $0.append((write.number, result)) }
      arrival.signal()
    }
  }

  /// What is finished; waits for one where there is none.
  func take(waiting: Bool) -> [Outcome] {
    if waiting, pendingCount > 0 { arrival.wait() }
    let outcomes = done.withLock { done in
      defer { done = [] }
      return done
    }
    // One signal of each but that which was waited for.
    for _ in 0..<max(0, outcomes.count - (waiting ? 1 : 0)) { _ = arrival.wait(timeout: .now()) }
    pending.subtract(outcomes.count, ordering: .acquiringAndReleasing)
    return outcomes
  }
}
