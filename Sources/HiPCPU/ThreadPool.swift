// SPDX-License-Identifier: Apache-2.0

import CHiPSIMD
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A fixed set of threads that share the items of one loop at a time.
///
/// Each thread begins with a share of its own, the same of every loop of that length, so that rows stay
/// near the core that had them before; one that is done takes what others have not begun. Items are
/// claimed one by one, so a thread that loses its core delays the one item that it holds and no
/// other. A loop ends when its items are done, not when every thread has noticed it. Idle threads
/// spin for a moment, then sleep.
package final class ThreadPool: Sendable {
  /// Threads that work on a loop, the caller's included.
  package let threadCount: Int

  private let afterLoop: AfterLoop?

  /// What the threads hold; not the pool itself, whose end is what ends them.
  private let loops: Loops
  private nonisolated(unsafe) var threads: [pthread_t] = []

  /// What each thread calls when it finds no more items of a loop.
  package typealias AfterLoop = @convention(c) () -> Void

  /// Starts `threadCount - 1` threads; the caller of `run` is the last one.
  package init(threadCount: Int, afterLoop: AfterLoop? = nil) {
    self.threadCount = max(1, threadCount)
    self.afterLoop = afterLoop
    loops = Loops(threadCount: max(1, threadCount), afterLoop)
    for index in 1..<max(1, threadCount) {
      let start = Unmanaged.passRetained(WorkerStart(loops: loops, index: index))
      #if canImport(Darwin)
        var thread: pthread_t?
      #else
        var thread = pthread_t()
      #endif
      let failure = pthread_create(
        &thread, nil,
        { argument in
          #if canImport(Darwin)
            let start = Unmanaged<WorkerStart>.fromOpaque(argument).takeRetainedValue()
          #else
            guard let argument else { return nil }
            let start = Unmanaged<WorkerStart>.fromOpaque(argument).takeRetainedValue()
          #endif
          start.loops.work(thread: start.index)
          return nil
        }, start.toOpaque())
      guard failure == 0 else {
        // Fewer threads are slower and nothing else.
        start.release()
        continue
      }
      #if canImport(Darwin)
        if let thread { threads.append(thread) }
      #else
        threads.append(thread)
      #endif
    }
  }

  deinit {
    loops.stop()
    for thread in threads { pthread_join(thread, nil) }
  }

  /// Calls `body(item, thread)` for every item in 0 ..< count, the last of each share first, and
  /// returns when all are done.
  ///
  /// Each thread that took part calls `afterLoop` when it finds no more.
  /// `thread` is below `threadCount` and in use by one item at a time. Loops do not nest.
  package func run(_ count: Int, _ body: (_ item: Int, _ thread: Int) -> Void) {
    guard count > 1, threadCount > 1 else {
      for item in (0..<max(0, count)).reversed() { body(item, 0) }
      afterLoop?()
      return
    }
    loops.run(count, body)
  }

  /// `run` for items that cost more the later they are, as blocks of queries do that see more keys: first shares
  /// come to the same, where consecutive items would leave the most to the last thread.
  package func runRising(_ count: Int, _ body: (_ item: Int, _ thread: Int) -> Void) {
    let sharers = min(count, threadCount)
    run(count) { place, thread in body(LoopShare.dealt(place, of: count, to: sharers), thread) }
  }
}

/// The loop under way, and the threads that wait for one.
///
/// A thread finds all that it needs of a loop on its own worker, and waits there for the next one: what travels
/// between cores grows with the threads that take part, not with the items, and no line is everybody's.
private final class Loops: Sendable {
  let threadCount: Int
  private let workers: PaddedArray<Worker>
  private let caller = PaddedArray<CallerState>(count: 1) { CallerState() }

  /// Waits before a thread gives its core away, and before it sleeps; some 40 cycles each.
  private let spinsBeforeYield, spinsBeforeSleep: Int
  private let afterLoop: ThreadPool.AfterLoop?

  init(threadCount: Int, _ afterLoop: ThreadPool.AfterLoop?) {
    self.threadCount = threadCount
    self.afterLoop = afterLoop
    workers = PaddedArray(count: threadCount) { Worker() }
    // Where threads take turns, one that spins keeps the others from what it waits for.
    let isCrowded = threadCount > AvailableCores.count
    spinsBeforeYield = isCrowded ? 50 : 1000
    spinsBeforeSleep = isCrowded ? 50 : 5000
  }

  func run(_ count: Int, _ body: (_ item: Int, _ thread: Int) -> Void) {
    precondition(count <= LoopShare.limit, "a loop has more items than a share can count")
    withoutActuallyEscaping(body) { body in
      let loop = LoopBody(body)
      withExtendedLifetime(loop) {
        let address = UInt(bitPattern: Unmanaged.passUnretained(loop).toOpaque())
        let issued = caller[0].issued.load(ordering: .relaxed) &+ count
        caller[0].issued.store(issued, ordering: .relaxed)
        let sharers = min(count, threadCount)
        for thread in (0..<sharers).reversed() {
          workers[thread].offer(
            LoopShare(ofThread: thread, of: sharers, items: count), ofBody: address)
        }
        // Threads add themselves to this word before they look at their share for the last time: either
        // they see what was offered, or they are seen here.
        let (seen, _) = caller[0].sleepers.wrappingAdd(
          CallerState.oneLoop, ordering: .acquiringAndReleasing)
        if seen % CallerState.oneLoop > 0 {
          for thread in 1..<sharers { workers[thread].wakeIfAsleep() }
        }
        takeItems(thread: 0)
        var spins = 0
        while doneCount != issued {
          spins += 1
          if spins > spinsBeforeYield { sched_yield() } else { ihp_pause() }
        }
      }
    }
  }

  func stop() {
    for thread in 0..<threadCount { workers[thread].stop() }
  }

  /// Items that have been run since the pool began.
  private var doneCount: Int {
    var sum = 0
    for thread in 0..<threadCount { sum &+= workers[thread].done.load(ordering: .acquiring) }
    return sum
  }

  /// Claims and runs items until none is left.
  ///
  /// A thread that comes late may find itself in the next loop, and helps: a share comes with its loop's body.
  private func takeItems(thread: Int) {
    var walk = LoopWalk(thread: thread, of: threadCount)
    while let (item, owner) = walk.next({ workers[$0].claim(byOwner: $1) }) {
      // The loop cannot end, nor its body go, before this item is counted.
      guard let body = UnsafeRawPointer(bitPattern: workers[owner].body.load(ordering: .relaxed))
      else { preconditionFailure("a share comes with its loop's body") }
      Unmanaged<LoopBody>.fromOpaque(body)._withUnsafeGuaranteedRef { $0.call(item, thread) }
      let done = workers[thread].done.load(ordering: .relaxed)
      workers[thread].done.store(done &+ 1, ordering: .releasing)
    }
    afterLoop?()
  }

  /// What each thread but the caller's does, until the pool goes.
  func work(thread: Int) {
    var idle = 0
    while !workers[thread].isStopping.load(ordering: .relaxed) {
      guard workers[thread].isIdle else {
        takeItems(thread: thread)
        idle = 0
        continue
      }
      idle += 1
      if idle < spinsBeforeSleep {
        ihp_pause()
        continue
      }
      workers[thread].sleep(countedIn: caller[0].sleepers)
      idle = 0
    }
  }
}

/// What the thread that calls keeps of its loops.
private struct CallerState: ~Copyable {
  /// Items of all loops so far; only the caller's own.
  let issued = Atomic<Int>(0)
  /// Threads that sleep or are about to, beside a count of loops.
  let sleepers = Atomic<Int>(0)
  static var oneLoop: Int { 1 << 16 }
}

/// Where one thread works and waits.
private struct Worker: ~Copyable {
  /// A `LoopShare`: refilled by the caller when the loop before has ended, and emptied by all.
  private let share = Atomic<UInt64>(0)
  /// The body of the share's loop, an unretained `LoopBody`.
  let body = Atomic<UInt>(0)
  /// Items that the thread has run, whosever they were; written by it alone.
  let done = Atomic<Int>(0)
  let isStopping = Atomic<Bool>(false)
  private let isAsleep = Atomic<Bool>(false)
  private let parking = SleepLock()

  var isIdle: Bool { LoopShare(word: share.load(ordering: .acquiring)).isEmpty }

  func offer(_ share: LoopShare, ofBody address: UInt) {
    body.store(address, ordering: .relaxed)
    self.share.store(share.word, ordering: .releasing)
  }

  func claim(byOwner isOwner: Bool) -> Int? {
    var seen = share.load(ordering: .relaxed)
    while let (item, rest) = LoopShare(word: seen).claim(byOwner: isOwner) {
      let (won, now) = share.compareExchange(
        expected: seen, desired: rest.word, successOrdering: .acquiringAndReleasing,
        failureOrdering: .relaxed)
      if won { return item }
      seen = now
    }
    return nil
  }

  /// Until there is a share, or an end.
  func sleep(countedIn sleepers: borrowing Atomic<Int>) {
    isAsleep.store(true, ordering: .relaxed)
    sleepers.wrappingAdd(1, ordering: .acquiringAndReleasing)
    parking.wait { isIdle && !isStopping.load(ordering: .relaxed) }
    sleepers.wrappingSubtract(1, ordering: .relaxed)
    isAsleep.store(false, ordering: .relaxed)
  }

  func wakeIfAsleep() { if isAsleep.load(ordering: .relaxed) { parking.wake() } }

  func stop() {
    isStopping.store(true, ordering: .relaxed)
    parking.wake()
  }
}

/// Values that lie 128 bytes apart, two cache lines, as the second comes with the first: what one thread writes
/// takes nothing else from another's cache.
private final class PaddedArray<Element: ~Copyable>: Sendable {
  /// Written in `init` and `deinit`; what lies there takes care of itself.
  private nonisolated(unsafe) let memory: UnsafeMutableRawPointer
  private let count: Int
  private static var distance: Int { 128 }

  init(count: Int, _ make: () -> Element) {
    precondition(MemoryLayout<Element>.size <= Self.distance)
    self.count = count
    memory = .allocate(byteCount: count * Self.distance, alignment: Self.distance)
    for index in 0..<count {
      (memory + index * Self.distance).bindMemory(to: Element.self, capacity: 1)
        .initialize(to: make())
    }
  }

  deinit {
    for index in 0..<count { address(index).deinitialize(count: 1) }
    memory.deallocate()
  }

  private func address(_ index: Int) -> UnsafeMutablePointer<Element> {
    (memory + index * Self.distance).assumingMemoryBound(to: Element.self)
  }

  subscript(index: Int) -> Element {
    unsafeAddress { UnsafePointer(address(index)) }
  }
}

private final class LoopBody {
  let call: (Int, Int) -> Void
  init(_ call: @escaping (Int, Int) -> Void) { self.call = call }
}

/// What a new thread is handed.
private final class WorkerStart {
  let loops: Loops
  let index: Int
  init(loops: Loops, index: Int) {
    self.loops = loops
    self.index = index
  }
}

/// A mutex with a condition: the standard library has no way to sleep until woken.
private final class SleepLock: Sendable {
  /// Used through the pthread calls only, which order all access.
  private nonisolated(unsafe) let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private nonisolated(unsafe) let condition: UnsafeMutablePointer<pthread_cond_t>

  init() {
    mutex = .allocate(capacity: 1)
    condition = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Sleeps while `condition` holds; looks again whenever woken.
  func wait(while holds: () -> Bool) {
    pthread_mutex_lock(mutex)
    while holds() { pthread_cond_wait(condition, mutex) }
    pthread_mutex_unlock(mutex)
  }

  /// Wakes the one thread that may sleep here.
  func wake() {
    pthread_mutex_lock(mutex)
    pthread_cond_signal(condition)
    pthread_mutex_unlock(mutex)
  }
}
