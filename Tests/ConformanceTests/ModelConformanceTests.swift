// SPDX-License-Identifier: Apache-2.0

import HiPAttention
import HiPCPU
import HiPCompute
import InfiniteHiP
import TestSupport
import Testing

/// Whole models on other devices against the CPU's kernels that round no factor.
@Suite struct ModelConformanceTests {
  private func likelihoods(
    _ policy: String, keeping type: KVType,
    on makeBackend: @escaping @Sendable () throws -> any ComputeBackend
  ) async throws -> [Double] {
    let model = try await LanguageModel.load(DemoModel.path, kvType: type, on: makeBackend)
    let text = try DemoModel.novel(45_000)
    let ids = try model.tokens(of: .text(text), atBeginning: true)
    let session = try await model.makeSession(
      attention: try #require(AttentionChoice.named(policy)))
    return try await session.negativeLogLikelihoods(of: Array(ids.prefix(9500)))
  }

  /// Beyond the trained length of 8,192 tokens, too.
  @Test(
    .enabled(if: TestGPU.isThere), arguments: TestedBackend.gpus,
    ["dense", "streaming", "h2o", "infinitehip", "infinitehip-3k"])
  func textsAreAsLikelyAsOnTheCPU(_ tested: TestedBackend, _ policy: String) async throws {
    let expected = try await likelihoods(policy, keeping: tested.kvType) {
      try CPUBackend(kernels: .fastestExact)
    }
    let found = try await likelihoods(policy, keeping: tested.kvType) { try tested.make() }
    #expect(found.count == expected.count)
    let errors = zip(found, expected).map { $0 - $1 }
    let mean = errors.reduce(0, +) / Double(errors.count)
    let rms = (errors.reduce(0) { $0 + $1 * $1 } / Double(errors.count)).squareRoot()
    #expect(abs(mean) < tested.meanTolerance && rms < tested.spreadTolerance, "\(mean), \(rms)")
  }
}

extension TestedBackend {
  /// How far the mean of a text's likelihoods may be off, in nats.
  fileprivate var meanTolerance: Double { tolerance > 1e-3 ? 2e-3 : 1e-3 }
  /// How far a token's may be, as a root of the mean square: near ties of selections fall either way.
  fileprivate var spreadTolerance: Double { tolerance > 1e-3 ? 0.1 : 0.05 }
}
