// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPCPU
import HiPCompute
import HiPTensors
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
        pool.runRising(count) { item, _ in runs[item].add() }
        #expect(runs.allSatisfy { $0.value == 2 })
      }
    }
  }

  /// What a thread holds of its core is given back after every loop: by all that took part, before `run` returns by the
  /// caller.
  @Test func everyLoopEndsWithACall() {
    for (threads, count) in [(1, 5), (4, 1), (4, 100)] {
      let pool = ThreadPool(threadCount: threads) { Self.ended.add() }
      for _ in 0..<10 {
        let before = Self.ended.value
        pool.run(count) { _, _ in }
        #expect(Self.ended.value > before)
      }
    }
  }

  /// A C function takes nothing along.
  private static let ended = Counter()

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

  /// More threads than cores, loops of fewer and of more items than threads, and items of several lengths.
  @Test(arguments: [8, 32])
  func crowdedThreadsRunEveryItemOnce(_ threads: Int) {
    let pool = ThreadPool(threadCount: threads)
    let runs = (0..<700).map { _ in Counter() }
    let busy = (0..<threads).map { _ in Counter() }
    let mixed = Counter()
    var expected = [Int](repeating: 0, count: runs.count)
    for round in 0..<1500 {
      let count = [2, 700, 5, 33, 64, 7, 250, threads - 1][round % 8]
      pool.run(count) { item, thread in
        // A thread's memory serves one item at a time.
        if busy[thread].add() % 2 == 1 { mixed.add() }
        for _ in 0..<(item % 50 == 3 ? 2000 : 1) { runs[item].touch() }
        runs[item].add()
        busy[thread].add()
      }
      for item in 0..<count { expected[item] += 1 }
      if round % 100 == 7 { usleep(2000) }
    }
    #expect(runs.map(\.value) == expected)
    #expect(mixed.value == 0)
  }

  /// What an item writes is there when the loop ends, and what was written before is there for it.
  @Test func itemsSeeWhatWasWrittenBeforeAndTheCallerWhatTheyWrote() {
    let pool = ThreadPool(threadCount: 4)
    var values = [Int](repeating: 0, count: 64)
    for round in 0..<2000 {
      values.withUnsafeMutableBufferPointer { values in
        nonisolated(unsafe) let values = values
        pool.run(values.count) { item, _ in values[item] += 1 }
        for item in values.indices where values[item] != 2 * round + 1 {
          Issue.record("item \(item) of round \(round)")
        }
        for item in values.indices { values[item] += 1 }
      }
    }
  }

  @Test func itemsOfALoopGoFromTheEndOnOneThread() {
    var order: [Int] = []
    ThreadPool(threadCount: 1).run(5) { item, _ in order.append(item) }
    #expect(order == [4, 3, 2, 1, 0])
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

/// What a process may use, and what it gives back.
@Suite(.serialized) struct BackendLifetimeTests {
  static var threadCount: Int {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("Threads:") }
    return line.flatMap { Int($0.split(whereSeparator: \.isWhitespace)[1]) } ?? 0
  }

  /// In a process of its own: other tests have threads that come and go.
  @Test(.enabled(if: FileManager.default.fileExists(atPath: "/proc/self/status")))
  func aThousandBackendsLeaveNoThreadBehind() async {
    await #expect(processExitsWith: .success) {
      for _ in 0..<20 { _ = try CPUBackend(threads: 4) }
      let before = BackendLifetimeTests.threadCount
      for _ in 0..<1000 { _ = try CPUBackend(threads: 4) }
      let now = BackendLifetimeTests.threadCount
      #expect(now < before + 8, "\(before) threads before, \(now) now")
    }
  }

  @Test func quotasCountInWholeCores() {
    #expect(AvailableCores.cores(quotaAndPeriod: "max 100000\n") == nil)
    #expect(AvailableCores.cores(quotaAndPeriod: "150000 100000") == 2)
    #expect(AvailableCores.cores(quotaAndPeriod: "10000 100000") == 1)
    #expect(AvailableCores.cores(quotaAndPeriod: "-1 100000") == nil)
    #expect(AvailableCores.cores(quotaAndPeriod: "") == nil)
    #expect(AvailableCores.count >= 1)
  }

  @Test func aTensorOfAnotherDeviceIsRefused() async {
    await #expect(processExitsWith: .failure) {
      final class Foreign: DeviceBuffer { let byteCount = 1 << 20 }
      let tensor = DeviceTensor(buffer: Foreign(), element: .float32, rows: 1, columns: 64)
      try CPUBackend(threads: 1).embed(EmbedCall(tokens: [0], table: tensor, output: tensor))
    }
  }

  @Test func memoryThatIsNotThereIsAnError() throws {
    let backend = try CPUBackend(threads: 1)
    #expect {
      _ = try backend.makeTensor(.zeros, element: .float32, rows: 1 << 30, columns: 1 << 30)
    } throws: {
      guard case .outOfMemory? = ($0 as? ComputeError)?.code else { return false }
      return true
    }
  }
}

private final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  var value: Int { count.load(ordering: .relaxed) }
  /// Adds one and returns what there was.
  @discardableResult func add() -> Int { count.wrappingAdd(1, ordering: .relaxed).oldValue }
  func touch() { count.wrappingAdd(0, ordering: .relaxed) }
}
