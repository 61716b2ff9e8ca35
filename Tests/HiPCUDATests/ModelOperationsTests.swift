// SPDX-License-Identifier: Apache-2.0

import CHiPCUDA
import FakeCUDA
import HiPCUDA
import HiPCompute
import HiPTensors
import Testing

extension CUDATests {
  /// What whole models enqueue beside attention; what comes of it, the conformance suite says on a GPU.
  @Suite struct ModelOperationsTests {
    private func backend(
      _ machine: FakeMachine, _ kernels: CUDABackend.Kernels = .tuned
    ) throws -> CUDABackend {
      for (name, size) in [
        ("embed_rows", MemoryLayout<ihp_embed>.stride),
        ("normalize_rows", MemoryLayout<ihp_norm>.stride),
        ("product_tiles", MemoryLayout<ihp_product>.stride),
        ("product_rows", MemoryLayout<ihp_product>.stride),
        ("gate_rows", MemoryLayout<ihp_gate>.stride),
        ("route_rows", MemoryLayout<ihp_route>.stride),
        ("cap_logits", MemoryLayout<ihp_logits>.stride),
        ("summarize_logits", MemoryLayout<ihp_logits>.stride),
      ] {
        fake_cuda_declare(name, [size], 1)
      }
      return try CUDABackend(
        CUDALibrary(driver: machine.driver(), compiler: machine.compiler()), kernels: kernels,
        cacheFolder: nil)
    }

    private func tensor(
      _ rows: Int, _ columns: Int, _ element: ElementType = .float32, on backend: CUDABackend
    ) throws -> DeviceTensor {
      try backend.makeTensor(.zeros, element: element, rows: rows, columns: columns)
    }

    /// Names of the kernels that were launched.
    private func launches(_ machine: FakeMachine) -> [String] {
      machine.takeLog().filter { $0.contains("<") }.map { String($0.prefix { $0 != " " }) }
    }

    /// Rows that decode are computed each by itself, whatever stands before them.
    @Test func rowsThatDecodeAreApart() throws {
      let machine = FakeMachine()
      try withExtendedLifetime(try backend(machine)) { backend in
        let (input, weight) = (
          try tensor(7, 64, on: backend), try tensor(32, 64, .q8_0, on: backend)
        )
        let output = try tensor(7, 32, on: backend)
        for (decodeRows, expected) in [
          (0, ["product_tiles"]), (7, ["product_rows"]), (3, ["product_tiles", "product_rows"]),
        ] {
          _ = machine.takeLog()
          backend.multiply([
            MatmulCall(input: input, weight: weight, output: output, decodeRows: decodeRows)
          ])
          #expect(launches(machine) == expected)
        }
        _ = try backend.submit()
      }
      machine.expectClean()
    }

    /// Plain kernels round nothing.
    @Test func plainKernelsHaveNoTiles() throws {
      let machine = FakeMachine()
      try withExtendedLifetime(try backend(machine, .plain)) { backend in
        let output = try tensor(7, 32, on: backend)
        _ = machine.takeLog()
        backend.multiply([
          MatmulCall(
            input: try tensor(7, 64, on: backend), weight: try tensor(32, 64, on: backend),
            output: output)
        ])
        #expect(launches(machine) == ["product_rows"])
        _ = try backend.submit()
      }
      machine.expectClean()
    }

    /// Each expert is enqueued, since only the device knows which rows take it.
    @Test func expertsAreEnqueuedWithoutWaiting() throws {
      let machine = FakeMachine()
      try withExtendedLifetime(try backend(machine)) { backend in
        let branches = try (0..<3).map { _ in
          FeedForwardCall.Branch(
            gate: try tensor(32, 64, on: backend), up: try tensor(32, 64, on: backend),
            down: try tensor(64, 32, on: backend))
        }
        let call = FeedForwardCall(
          input: try tensor(5, 64, on: backend),
          weights: .experts(
            .init(
              router: try tensor(3, 64, on: backend), routerBias: nil, branches: branches,
              routing: ExpertRouting(used: 2, isRenormalised: true))),
          activation: .silu,
          workspace: .init(
            gate: try tensor(5, 32, on: backend), up: try tensor(5, 32, on: backend),
            experts: .init(
              router: try tensor(5, 3, on: backend), gathered: try tensor(5, 64, on: backend),
              products: try tensor(5, 64, on: backend))), output: try tensor(5, 64, on: backend),
          update: .add, decodeRows: 0)
        _ = machine.takeLog()
        let waits = machine.calls("cuStreamSynchronize")
        backend.feedForward(call)
        let branch = ["product_tiles", "product_tiles", "gate_rows", "product_tiles"]
        #expect(launches(machine) == ["product_rows", "route_rows"] + branch + branch + branch)
        #expect(machine.calls("cuStreamSynchronize") == waits)
        _ = try backend.submit()
      }
      machine.expectClean()
    }

    /// A greedy token and likelihoods need no row of logits on the host, and a step waits once.
    @Test func rowsOfLogitsTravelOnlyWhereTheyAreWanted() throws {
      let machine = FakeMachine()
      try withExtendedLifetime(try backend(machine)) { backend in
        let logits = try tensor(4, 1000, on: backend)
        func copies(_ request: SampleCall.Request) throws -> Int {
          let before = machine.calls("cuMemcpyDtoHAsync_v2")
          backend.sample(SampleCall(logits: logits, items: [.init(rows: 0..<1, request: request)]))
          let count = machine.calls("cuMemcpyDtoHAsync_v2") - before
          _ = try backend.submit()
          return count
        }
        #expect(try copies(.candidates(.greedy)) == 1)
        #expect(try copies(.negativeLogLikelihoods([7])) == 1)
        #expect(try copies(.candidates(CandidateRequest(count: 40))) == 2)
        var biased = CandidateRequest.greedy
        biased.bias = [3: 1]
        #expect(try copies(.candidates(biased)) == 2)
        #expect(try copies(.logits) == 2)
      }
      machine.expectClean()
    }

    /// Pinned memory is taken once and kept from step to step.
    @Test func aSamplingStepAllocatesNothing() throws {
      let machine = FakeMachine()
      try withExtendedLifetime(try backend(machine)) { backend in
        let logits = try tensor(4, 1000, on: backend)
        func step() throws {
          backend.sample(
            SampleCall(
              logits: logits, scale: 0.5, softCap: 30,
              items: [
                .init(rows: 0..<2, request: .candidates(CandidateRequest(count: 40))),
                .init(rows: 2..<4, request: .candidates(.greedy)),
              ]))
          _ = try backend.submit()
        }
        try step()
        let before = backend.counters.allocations
        for _ in 0..<20 { try step() }
        #expect(backend.counters.allocations == before)
      }
      machine.expectClean()
    }
  }
}
