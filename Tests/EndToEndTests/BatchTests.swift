// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import HiPModels
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

/// What a sequence computes never depends on which others are served beside it: to the bit.
@Suite struct BatchTests {
  static let kernels = CPUKernels.supported

  /// One policy of each kind, which select from a few hundred tokens on.
  static let policies: [AttentionPolicy] = {
    func sparse(_ focus: Focus?) -> AttentionPolicy {
      SessionTests.makeSparse(refresh: 2, focus: focus).policy
    }
    let streaming = try? StreamingWindow(sink: 16, window: 100)
    let hitters = try? HeavyHitters(recent: 80, heavy: 40)
    return [
      .dense, sparse(nil), SessionTests.shared.policy, streaming.map { .streaming($0) } ?? .dense,
      sparse(Focus(passage: 16, keep: 256, answer: 3)),
      hitters.map { .heavyHitters($0) } ?? .dense, .stretched(.dynamic),
    ]
  }()

  /// A prompt and an answer of some length, under some policy.
  struct Request {
    let policy: AttentionPolicy
    let promptCount: Int
    let answerCount: Int
    let seed: UInt64

    static func make(_ count: Int) -> [Request] {
      (0..<count).map { index in
        Request(
          policy: policies[index % policies.count], promptCount: 1 + index * 397 % 1300,
          answerCount: 3 + index % 5, seed: UInt64(index))
      }
    }

    var prompt: [TokenID] {
      var numbers = SeededNumbers(seed + 100)
      return (0..<promptCount).map { _ in TokenID(numbers.index(below: 160)) }
    }
  }

  /// Steps sequences together, and notes what each is offered.
  private struct Server {
    let runner: ModelRunner
    var scheduler = Scheduler()
    /// Tokens of prompts that a step takes.
    var prefillRows = DecoderModel.largestPrefill
    var states: [SequenceID: SequenceState] = [:]
    var offered: [SequenceID: [Candidates]] = [:]

    init(_ kernels: CPUKernels, threads: Int = 2) throws {
      runner = try TinyModel().runner(on: CPUBackend(threads: threads, kernels: kernels))
    }

    mutating func join(_ request: Request) -> SequenceID {
      let format = runner.model.architecture.kvFormat(.f16, [request.policy])
      let id = runner.open(format)
      let choice = AttentionChoice(name: "test", policy: request.policy)
      states[id] = SequenceState(attention: LayerAttention(choice, trainedLength: 512))
      ask(id, request.prompt, request.answerCount)
      return id
    }

    mutating func ask(_ id: SequenceID, _ prompt: [TokenID], _ count: Int) {
      let request = GenerationRequest(
        .tokens(prompt), sampling: SamplingOptions(temperature: 1, topK: 7), maximumTokens: count)
      states[id]?.begin(
        prompt, .answer(Answer(request, tokenizer: NoText(), endTokens: [])))
      scheduler.add(id)
    }

    mutating func fork(_ id: SequenceID) -> SequenceID {
      let copy = runner.fork(id)
      states[copy] = states[id]?.forked()
      return copy
    }

    mutating func leave(_ id: SequenceID) {
      scheduler.remove(id)
      states[id] = nil
      runner.close(id)
    }

    /// Runs a step; false when there is none.
    mutating func step() throws -> Bool {
      let now = states
      let rows = prefillRows
      guard
        let plan = scheduler.next(
          prefillRows: rows, { now[$0]?.nextSlice(of: $0, prefillRows: rows) })
      else { return false }
      for slice in plan.slices { try runner.cache(slice.sequence).reserve(slice.tokens.count) }
      for (slice, output) in zip(plan.slices, try runner.run(plan)) {
        #expect(output.failure == nil)
        _ = states[slice.sequence]?.apply(slice, output)
        if let candidates = output.candidates {
          offered[slice.sequence, default: []].append(candidates)
        }
      }
      return true
    }

    mutating func finish() throws { while try step() {} }
  }

  private func alone(_ request: Request, _ kernels: CPUKernels) throws -> [Candidates] {
    var server = try Server(kernels)
    let id = server.join(request)
    try server.finish()
    return server.offered[id] ?? []
  }

  @Test func thePoliciesAreOfEachKind() { #expect(Set(Self.policies).count == 7) }

  @Test(arguments: kernels, [2, 5, 16])
  func aBatchEqualsSingles(_ kernels: CPUKernels, _ count: Int) throws {
    let requests = Request.make(count)
    var server = try Server(kernels)
    let ids = requests.map { server.join($0) }
    try server.finish()
    for (request, id) in zip(requests, ids) {
      let found = try #require(server.offered[id])
      #expect(found.count == request.answerCount)
      #expect(try found == alone(request, kernels), "\(request)")
    }
  }

  @Test(arguments: kernels)
  func joiningLeavingAndForkingChangesNothing(_ kernels: CPUKernels) throws {
    let requests = Request.make(9)
    var server = try Server(kernels)
    var ids = requests.prefix(4).map { server.join($0) }
    for _ in 0..<3 { _ = try server.step() }
    // One in the midst of its prompt or answer is cancelled.
    server.leave(ids[1])
    ids += requests[4..<7].map { server.join($0) }
    _ = try server.step()
    ids += requests[7...].map { server.join($0) }
    try server.finish()
    for (index, request) in requests.enumerated() where index != 1 {
      #expect(try server.offered[ids[index]] == alone(request, kernels), "\(request)")
    }
    // Forks of one go on beside it and each other.
    let root = ids[3]
    server.states[root]?.end()
    let question = Request.make(20)[19].prompt
    let forks = (0..<3).map { _ in server.fork(root) }
    for id in forks { server.offered[id] = [] }
    server.ask(forks[0], Array(question.prefix(5)), 4)
    try server.finish()
    server.ask(forks[1], question, 6)
    server.ask(forks[2], question, 6)
    server.ask(ids[5], Array(question.prefix(70)), 3)
    try server.finish()
    #expect(server.offered[forks[1]]?.count == 6)
    #expect(server.offered[forks[1]] == server.offered[forks[2]])
    var lone = try Server(kernels)
    let again = lone.join(requests[3])
    try lone.finish()
    lone.states[again]?.end()
    lone.offered[again] = []
    lone.ask(again, question, 6)
    try lone.finish()
    #expect(lone.offered[again] == server.offered[forks[1]])
  }

  /// However many threads compute: sums are in an order of their own.
  @Test(arguments: [1, 3, 8]) func threadsChangeNothing(_ threads: Int) throws {
    for request in Request.make(6) {
      var server = try Server(.best, threads: threads)
      let id = server.join(request)
      try server.finish()
      #expect(try server.offered[id] == alone(request, .best), "\(request)")
    }
  }

  /// Prompts that are cut into smaller steps, so that others wait less long.
  @Test(arguments: [64, 128, 256]) func theSizeOfStepsChangesNothing(_ rows: Int) throws {
    let requests = Request.make(7)
    var server = try Server(.best)
    server.prefillRows = rows
    let ids = requests.map { server.join($0) }
    try server.finish()
    for (request, id) in zip(requests, ids) {
      #expect(try server.offered[id] == alone(request, .best), "\(request)")
    }
  }

  @Test func aPlanTakesWholeSlicesAndServesAllInTurn() throws {
    var scheduler = Scheduler(decodeRows: 2)
    let attention = LayerAttention(
      AttentionChoice(name: "dense", policy: .dense), trainedLength: 512)
    func slice(_ number: Int, _ count: Int) -> SequenceSlice {
      SequenceSlice(
        sequence: SequenceID(number: number), tokens: .init(repeating: 0, count: count), start: 0,
        kind: count == 1 ? .decode : .prefill, attention: attention)
    }
    let wanted = [
      1: slice(1, 60), 2: slice(2, 60), 3: slice(3, 30), 4: slice(4, 1), 5: slice(5, 1),
      6: slice(6, 1),
    ]
    for number in wanted.keys.sorted() { scheduler.add(SequenceID(number: number)) }
    func next() throws -> [Int] {
      let plan = try #require(scheduler.next(prefillRows: 100) { wanted[$0.number] })
      #expect(plan.rowCount - plan.decodeRowCount <= 100 && plan.decodeRowCount <= 2)
      return plan.slices.map(\.sequence.number)
    }
    // The third prompt would fit beside the first, but does not overtake the second.
    #expect(try next() == [1, 4, 5])
    #expect(try next() == [2, 3, 6, 4])
    #expect(try next() == [1, 5, 6])
    scheduler.remove(SequenceID(number: 2))
    #expect(try next() == [3, 1, 4, 5])
    #expect(scheduler.next { _ in nil } == nil)
  }
}

/// A vocabulary without texts.
private struct NoText: Tokenizer {
  let vocabularySize = 160
  func encode(_ text: String, special: SpecialTokenReading) -> [TokenID] { [] }
  func bytes(of token: TokenID) -> [UInt8] { [] }
  var controlTokens: [String] { [] }
  func specialToken(_ text: String) -> TokenID? { nil }
  func isControl(_ token: TokenID) -> Bool { false }
}
