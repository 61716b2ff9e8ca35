// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import HiPModels
import InfiniteHiP
import TestSupport
import Testing

/// Numbers that are not finite, and memory that is not there, end in errors that say where.
@Suite struct FaultTests {
  private let attention = LayerAttention(
    AttentionChoice(name: "dense", policy: .dense), trainedLength: 512)

  /// Runs a prompt of three tokens beside one in order; what comes of the first.
  private func failure(
    _ kernels: CPUKernels, kvType: KVType = .f16, tokens: [Int32] = [1, 2, 3],
    edit: @escaping @Sendable (String, inout [Float]) -> Void
  ) throws -> ComputeError? {
    let runner = try TinyModel(edit: edit).runner(on: CPUBackend(threads: 2, kernels: kernels))
    let format = runner.model.architecture.kvFormat(kvType, [.dense])
    let slice = SequenceSlice(
      sequence: runner.open(format), tokens: tokens, start: 0, kind: .prefill,
      attention: attention, output: .candidates(.greedy))
    try runner.cache(slice.sequence).reserve(tokens.count)
    let output = try #require(try runner.run(StepPlan([slice])).first)
    #expect((output.failure == nil) == (runner.cache(slice.sequence).length == tokens.count))
    return output.failure
  }

  @Test(arguments: CPUKernels.supported, [Float.nan, .infinity])
  func aLayerThatStopsBeingFiniteIsNamed(_ kernels: CPUKernels, _ value: Float) throws {
    for (name, layer) in [
      ("blk.1.ffn_down.weight", 1), ("blk.2.attn_k.weight", 2), ("blk.0.attn_v.weight", 0),
      ("blk.1.attn_output.weight", 1), ("blk.0.ffn_norm.weight", 0), ("blk.2.ffn_up.weight", 2),
      ("blk.1.attn_q.weight", 1), ("token_embd.weight", nil),
    ] {
      let error = try failure(kernels) { if $0 == name { $1[5] = value } }
      let message = error?.message ?? ""
      if name == "token_embd.weight" {
        // A token's row that nobody asks for is seen in the logits, whose matrix it is.
        #expect(error?.code == .notFinite(layer: nil), "\(name)")
        #expect(message.contains("logits"))
      } else {
        #expect(error?.code == .notFinite(layer: layer), "\(name)")
        #expect(message.contains("layer \(layer ?? -1)"), "\(name)")
      }
    }
    let row = try failure(kernels) { if $0 == "token_embd.weight" { $1[2 * 64] = value } }
    #expect(row?.message.contains("embedding") == true)
    #expect(try failure(kernels) { _, _ in } == nil)
  }

  /// Where keys are kept in 8 bits, a NaN would be rounded to a number.
  @Test func keysInEightBitsHideNothing() throws {
    for kernels in CPUKernels.supported {
      let error = try failure(kernels, kvType: .q8) { name, values in
        if name == "blk.1.attn_k.weight" { values[0] = .nan }
      }
      #expect(error?.code == .notFinite(layer: 1))
    }
  }

  @Test func oneSequenceFailsAndTheOthersGoOn() throws {
    // Token 7 has an embedding that is not finite.
    let model = TinyModel { name, values in
      if name == "token_embd.weight" { values[7 * 64] = .nan }
    }
    let runner = try model.runner(on: CPUBackend(threads: 2))
    let format = model.architecture.kvFormat(.f16, [.dense])
    let slices = [[1, 2, 3], [4, 7], [5, 6]].map { tokens in
      SequenceSlice(
        sequence: runner.open(format), tokens: tokens.map(Int32.init), start: 0, kind: .prefill,
        attention: attention)
    }
    for slice in slices { try runner.cache(slice.sequence).reserve(slice.tokens.count) }
    let outputs = try runner.run(StepPlan(slices))
    #expect(outputs.map { $0.failure?.code } == [nil, .notFinite(layer: nil), nil])
    #expect(slices.map { runner.cache($0.sequence).length } == [3, 0, 2])
  }

  @Test func theFirstFaultIsNamed() throws {
    let error = try failure(.best, tokens: [7, 4]) { name, values in
      if name == "token_embd.weight" { values[7 * 64] = .nan }
    }
    #expect(error?.message.contains("embedding") == true)
  }

  @Test func aStepThatFailsEvictsNothing() throws {
    let hitters = try HeavyHitters(recent: 2, heavy: 2)
    let choice = AttentionChoice(name: "test", policy: .heavyHitters(hitters))
    // Token 7 overflows its norm, and no logit: the embedding is the output matrix too.
    let model = TinyModel { name, values in
      if name == "token_embd.weight" { values[7 * 64] = 1e25 }
      if name == "output_norm.weight" { values[0] = 0 }
    }
    let runner = try model.runner(on: CPUBackend(threads: 2))
    let format = model.architecture.kvFormat(.f16, [choice.policy])
    func run(_ tokens: [Int32], _ id: SequenceID) throws -> SliceOutput {
      let cache = runner.cache(id)
      try cache.reserve(tokens.count)
      return try runner.run(
        StepPlan([
          SequenceSlice(
            sequence: id, tokens: tokens, start: cache.length, kind: .prefill,
            attention: LayerAttention(choice, trainedLength: 512), output: .candidates(.greedy))
        ]))[0]
    }
    let prompt = (0..<150).map { Int32($0 % 6 + 1) }
    let (first, second) = (runner.open(format), runner.open(format))
    for id in [first, second] { #expect(try run(prompt, id).failure == nil) }
    #expect(try run([4, 7], first).failure != nil)
    #expect(try run([4, 5], first).candidates == run([4, 5], second).candidates)
  }

  @Test func keysAndValuesBeyondTheBudgetAreRefused() throws {
    let model = TinyModel()
    let format = model.architecture.kvFormat(.f16, [.dense])
    let runner = try model.runner(
      on: CPUBackend(threads: 1), capacity: 3 * format.blockByteCount)
    let first = runner.cache(runner.open(format))
    let second = runner.cache(runner.open(format))
    try first.reserve(120)
    #expect(second.missingByteCount(for: 65) == format.blockByteCount)
    #expect {
      try second.reserve(65)
    } throws: {
      ($0 as? ComputeError)?.code == .outOfMemory(neededBytes: 2 * format.blockByteCount)
    }
    try second.reserve(64)
    #expect(runner.blocks.usedByteCount == runner.blocks.capacity)
    first.trim()
    #expect(runner.blocks.usedByteCount == format.blockByteCount)
  }
}
