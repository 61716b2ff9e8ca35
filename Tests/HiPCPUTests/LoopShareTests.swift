// SPDX-License-Identifier: Apache-2.0

import HiPCPU
import Testing

/// What threads do with a loop, counted instead of timed: this needs no cores.
@Suite struct LoopShareTests {
  @Test(arguments: [1, 2, 3, 16, 64])
  func sharesCoverALoopOnce(_ threads: Int) {
    for count in [threads, threads + 1, 1000, 128_256, LoopShare.limit] {
      var next = 0
      for thread in 0..<threads {
        let share = LoopShare(ofThread: thread, of: threads, items: count)
        #expect(share.first == next && share.end >= next)
        #expect(LoopShare(word: share.word) == share)
        #expect(abs(share.end - share.first - count / threads) <= 1)
        next = share.end
      }
      #expect(next == count)
    }
  }

  @Test(arguments: [1, 2, 3, 16, 64])
  func everyItemIsDealtOnce(_ threads: Int) {
    for count in [1, threads, threads + 1, 5 * threads - 1, 1000] {
      let sharers = min(threads, count)
      let items = (0..<count).map { LoopShare.dealt($0, of: count, to: sharers) }
      #expect(items.sorted() == Array(0..<count))
      for thread in 0..<sharers {
        let share = LoopShare(ofThread: thread, of: sharers, items: count)
        #expect(items[share.first..<share.end] == items[share.first..<share.end].sorted()[...])
      }
    }
  }

  /// Against consecutive items, whose last share costs nearly twice the mean.
  @Test(arguments: [2, 16, 32, 64]) func dealtItemsOfRisingCostEvenOut(_ threads: Int) {
    for count in [4 * threads, 4 * threads + 3, 16 * threads] {
      let costs = (0..<count).map { Double(LoopShare.dealt($0, of: count, to: threads) + 1) }
      let loop = CountedLoop(costs: costs, threads: threads)
      let mean = costs.reduce(0, +) / Double(threads)
      #expect(loop.runs.allSatisfy { $0 == 1 })
      #expect(loop.end <= 1.07 * mean && loop.steals <= threads)
    }
  }

  @Test func anOwnerAndAThiefMeet() throws {
    var share = LoopShare(ofThread: 1, of: 2, items: 7)
    var claimed: [Int] = []
    while let (item, rest) = share.claim(byOwner: claimed.count % 3 > 0) {
      claimed.append(item)
      share = rest
    }
    #expect(claimed == [3, 6, 5, 4])
    #expect(share.isEmpty && share.claim(byOwner: true) == nil)
  }

  @Test(arguments: [16, 32, 64])
  func itemsOfOneCostStayWhereTheyBegin(_ threads: Int) {
    for count in [threads / 4, threads, 4 * threads, 16 * threads] {
      let loop = CountedLoop(costs: [Double](repeating: 1, count: count), threads: threads)
      #expect(loop.runs.allSatisfy { $0 == 1 })
      #expect(loop.steals == 0)
      #expect(loop.itemsOfThreads.max() == max(1, count / threads))
    }
    // What does not divide ends an item later and no more.
    let loop = CountedLoop(costs: [Double](repeating: 1, count: 4 * threads + 3), threads: threads)
    #expect(loop.itemsOfThreads.max() == 5 && loop.end == 5 && loop.steals <= 3)
  }

  /// Costs as attention has them (later blocks see more keys), single long items, and what varies at random.
  @Test(arguments: [16, 32, 64], Skew.allCases)
  func itemsOfSeveralCostsEvenOut(_ threads: Int, _ skew: Skew) throws {
    for perThread in [1, 4, 16] {
      let costs = skew.costs(perThread * threads)
      let loop = CountedLoop(costs: costs, threads: threads)
      #expect(loop.runs.allSatisfy { $0 == 1 })
      let mean = costs.reduce(0, +) / Double(threads)
      let longest = try #require(costs.max())
      // Nobody idles while an item is unclaimed.
      #expect(loop.end <= mean + longest)
      #expect(loop.steals < costs.count / 2)
      if perThread == 16, skew != .spikes { #expect(loop.end <= 1.15 * mean) }
    }
  }

  /// A thread that has lost its core holds one item and no more.
  @Test(arguments: [16, 64]) func aThreadThatIsLateLosesItsShare(_ threads: Int) {
    let costs = [Double](repeating: 1, count: 8 * threads)
    let loop = CountedLoop(costs: costs, threads: threads, lateThread: 3, lateness: 1000)
    #expect(loop.runs.allSatisfy { $0 == 1 })
    #expect(loop.itemsOfThreads[3] == 0 && loop.steals == 8)
    #expect(loop.end <= 9)
  }

  /// What travels between cores: three lines for each thread with its first share (out, taken, done), and one look
  /// at each of the others' at the end, where one counter for all would move for every item, twice.
  @Test(arguments: [16, 32, 64]) func linesMoveByThreadsAndNotByItems(_ threads: Int) {
    let few = CountedLoop.transfers(items: 4 * threads, threads: threads)
    let many = CountedLoop.transfers(items: 64 * threads, threads: threads)
    #expect(many.ofShares <= few.ofShares + threads)
    #expect(few.mostOfOneLine <= threads + 2)
    #expect(many.mostOfOneLine <= threads + 2)
  }
}

enum Skew: CaseIterable {
  case rising, spikes, random

  func costs(_ count: Int) -> [Double] {
    var state: UInt64 = 20
    return (0..<count).map { item in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return switch self {
      case .rising: Double(item + 1)
      case .spikes: item % 61 == 7 ? 50 : 1
      case .random: 1 + Double(state >> 40) / Double(1 << 22)
      }
    }
  }
}

/// A loop played by the rules that threads follow, in the order in which they would become free.
struct CountedLoop {
  var runs: [Int]
  var itemsOfThreads: [Int]
  var steals = 0
  /// When the last item is done.
  var end = 0.0

  init(costs: [Double], threads: Int, lateThread: Int? = nil, lateness: Double = 0) {
    runs = [Int](repeating: 0, count: costs.count)
    itemsOfThreads = [Int](repeating: 0, count: threads)
    let sharers = min(threads, costs.count)
    var shares = (0..<threads).map {
      $0 < sharers ? LoopShare(ofThread: $0, of: sharers, items: costs.count) : LoopShare(word: 0)
    }
    var walks = (0..<threads).map { LoopWalk(thread: $0, of: threads) }
    // The others never notice a loop that they have no share of.
    var free: [(time: Double, thread: Int)] = (0..<sharers).map {
      ($0 == lateThread ? lateness : 0, $0)
    }
    while let next = free.indices.min(by: { free[$0] < free[$1] }) {
      let (time, thread) = free[next]
      let claimed = walks[thread].next { owner, isOwner in
        guard let (item, rest) = shares[owner].claim(byOwner: isOwner) else { return nil }
        shares[owner] = rest
        return item
      }
      guard let (item, owner) = claimed else {
        free.remove(at: next)
        continue
      }
      runs[item] += 1
      itemsOfThreads[thread] += 1
      if owner != thread { steals += 1 }
      free[next].time = time + costs[item]
      end = max(end, time + costs[item])
    }
  }

  /// Lines that move from one core's cache to another's in the second of two loops of equal items.
  static func transfers(
    items: Int, threads: Int
  ) -> (ofShares: Int, mostOfOneLine: Int) {
    var lines = CountedLines(count: threads)
    for round in 0..<2 {
      if round == 1 { lines.moves = [Int](repeating: 0, count: threads) }
      let sharers = min(items, threads)
      for owner in 0..<sharers { lines.write(owner, by: 0) }
      var walks = (0..<sharers).map { LoopWalk(thread: $0, of: threads) }
      var shares = (0..<threads).map {
        $0 < sharers ? LoopShare(ofThread: $0, of: sharers, items: items) : LoopShare(word: 0)
      }
      var isBusy = true
      while isBusy {
        isBusy = false
        for thread in 0..<sharers {
          let claimed = walks[thread].next { owner, isOwner in
            lines.read(owner, by: thread)
            guard let (item, rest) = shares[owner].claim(byOwner: isOwner) else { return nil }
            lines.write(owner, by: thread)
            shares[owner] = rest
            return item
          }
          guard claimed != nil else { continue }
          isBusy = true
          // The item is counted as done.
          lines.write(thread, by: thread)
        }
      }
      for owner in 0..<threads { lines.read(owner, by: 0) }
    }
    return (lines.moves.reduce(0, +), lines.moves.max() ?? 0)
  }
}

/// Which cores hold which lines.
struct CountedLines {
  private var holders: [Set<Int>]
  var moves: [Int]

  init(count: Int) {
    holders = (0..<count).map { [$0] }
    moves = [Int](repeating: 0, count: count)
  }

  mutating func read(_ line: Int, by core: Int) {
    if holders[line].insert(core).inserted { moves[line] += 1 }
  }

  mutating func write(_ line: Int, by core: Int) {
    if holders[line] != [core] { moves[line] += 1 }
    holders[line] = [core]
  }
}
