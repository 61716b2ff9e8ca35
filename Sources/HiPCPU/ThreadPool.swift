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
/// Items are claimed one by one, so a thread that loses its core delays the one item that it holds
/// and no other. A loop ends when its items are done, not when every thread has noticed it. Idle
/// threads spin for a moment, then sleep.
package final class ThreadPool: Sendable {
  /// Threads that work on a loop, the caller's included.
  package let threadCount: Int

  /// What the threads hold; not the pool itself, whose end is what ends them.
  private let loops = Loops()
  private nonisolated(unsafe) var threads: [pthread_t] = []

  /// Starts `threadCount - 1` threads; the caller of `run` is the last one.
  package init(threadCount: Int) {
    self.threadCount = max(1, threadCount)
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
          start.loops.work(index: start.index)
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

  /// Calls `body(item, thread)` for every item in 0 ..< count, the last first, and returns when all
  /// are done.
  ///
  /// `thread` is below `threadCount` and in use by one item at a time. Loops do not nest.
  package func run(_ count: Int, _ body: (_ item: Int, _ thread: Int) -> Void) {
    guard count > 1, threadCount > 1 else {
      for item in (0..<max(0, count)).reversed() { body(item, 0) }
      return
    }
    loops.run(count, body)
  }
}

/// The loop under way, and the threads that wait for one.
private final class Loops: Sendable {
  /// Generation of the current loop in the upper half, its number of unclaimed items in the lower:
  /// one word, so that no thread can mix up two loops.
  private let claim = Atomic<UInt64>(0)
  private let doneCount = Atomic<Int>(0)
  /// The current loop's body, an unretained `LoopBody`.
  private let body = Atomic<UInt>(0)
  private let sleeperCount = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private let sleep = SleepLock()

  /// Waits before a thread gives its core away, and before it sleeps; some 40 cycles each.
  private static let spinsBeforeYield = 1000
  private static let spinsBeforeSleep = 5000

  func run(_ count: Int, _ body: (_ item: Int, _ thread: Int) -> Void) {
    withoutActuallyEscaping(body) { body in
      let loop = LoopBody(body)
      withExtendedLifetime(loop) {
        let address = UInt(bitPattern: Unmanaged.passUnretained(loop).toOpaque())
        self.body.store(address, ordering: .relaxed)
        doneCount.store(0, ordering: .relaxed)
        let generation = (claim.load(ordering: .relaxed) >> 32) &+ 1
        claim.store(generation << 32 | UInt64(count), ordering: .sequentiallyConsistent)
        if sleeperCount.load(ordering: .sequentiallyConsistent) > 0 { sleep.wakeAll() }
        takeItems(of: generation, thread: 0)
        var spins = 0
        while doneCount.load(ordering: .acquiring) < count {
          spins += 1
          if spins > Self.spinsBeforeYield { sched_yield() } else { ihp_pause() }
        }
      }
    }
  }

  func stop() {
    stopping.store(true, ordering: .sequentiallyConsistent)
    sleep.wakeAll()
  }

  /// Claims and runs items of the loop `generation` until none is left.
  private func takeItems(of generation: UInt64, thread: Int) {
    while true {
      let seen = claim.load(ordering: .acquiring)
      let unclaimed = seen & 0xffff_ffff
      guard seen >> 32 == generation & 0xffff_ffff, unclaimed > 0 else { return }
      let (won, _) = claim.compareExchange(
        expected: seen, desired: seen - 1, ordering: .acquiringAndReleasing)
      guard won, let address = UnsafeRawPointer(bitPattern: body.load(ordering: .relaxed)) else {
        continue
      }
      // The loop cannot end, nor its body go, before this item is counted.
      Unmanaged<LoopBody>.fromOpaque(address).takeUnretainedValue().call(
        Int(unclaimed) - 1, thread)
      doneCount.add(1, ordering: .acquiringAndReleasing)
    }
  }

  /// What each thread but the caller's does, until the pool goes.
  func work(index: Int) {
    var last: UInt64 = 0
    var idle = 0
    while !stopping.load(ordering: .relaxed) {
      let generation = claim.load(ordering: .acquiring) >> 32
      if generation != last {
        last = generation
        takeItems(of: generation, thread: index)
        idle = 0
        continue
      }
      idle += 1
      if idle < Self.spinsBeforeSleep {
        ihp_pause()
        continue
      }
      sleeperCount.add(1, ordering: .sequentiallyConsistent)
      sleep.wait {
        claim.load(ordering: .sequentiallyConsistent) >> 32 == last
          && !stopping.load(ordering: .sequentiallyConsistent)
      }
      sleeperCount.subtract(1, ordering: .sequentiallyConsistent)
      idle = 0
    }
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

  func wakeAll() {
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }
}
