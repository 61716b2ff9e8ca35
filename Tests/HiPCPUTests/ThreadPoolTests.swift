// SPDX-License-Identifier: Apache-2.0

import HiPCPU
import Synchronization
import Testing

@Suite struct ThreadPoolTests {
  @Test(arguments: [1, 2, 3, 16])
  func everyItemRunsOnce(_ threads: Int) {
    let pool = ThreadPool(threadCount: threads)
    for count in [0, 1, 2, 7, 1000] {
      for _ in 0..<50 {
        let runs = (0..<count).map { _ in Counter() }
        pool.run(count) { item, thread in
          #expect(thread < threads)
          runs[item].add()
        }
        #expect(runs.allSatisfy { $0.value == 1 })
      }
    }
  }

  @Test func loopsOfChangingLengthDoNotMix() {
    let pool = ThreadPool(threadCount: 4)
    for round in 0..<5000 {
      let count = [2, 1000, 3, 70, 5][round % 5]
      let sum = Counter()
      pool.run(count) { _, _ in sum.add() }
      if sum.value != count {
        Issue.record("\(sum.value) of \(count) items ran in round \(round)")
        return
      }
    }
  }

  @Test func sleepingThreadsWakeForTheNextLoop() async throws {
    let pool = ThreadPool(threadCount: 2)
    for _ in 0..<20 {
      // Long enough for the other thread to fall asleep on its own.
      try await Task.sleep(for: .milliseconds(5))
      let sum = Counter()
      pool.run(64) { _, _ in sum.add() }
      #expect(sum.value == 64)
    }
  }

  @Test func poolsCanBeMadeAndDropped() {
    for threads in 1...8 {
      let pool = ThreadPool(threadCount: threads)
      let sum = Counter()
      pool.run(3) { _, _ in sum.add() }
      #expect(sum.value == 3)
    }
  }
}

private final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  var value: Int { count.load(ordering: .relaxed) }
  func add() { count.add(1, ordering: .relaxed) }
}
