// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPCPU
import HiPCompute
import HiPTensors
import HiPTokenization
import InfiniteHiP
import TestSupport
import Testing

/// The demo model against values of Hugging Face transformers (Scripts/make-fixtures.py).
@Suite struct GoldenTests {
  private func fixture<Value: Decodable>(_ name: String, as type: Value.Type) throws -> Value {
    let url = try #require(
      Bundle.module.url(forResource: name, withExtension: "json", subdirectory: "Fixtures"))
    return try JSONDecoder().decode(type, from: Data(contentsOf: url))
  }

  private struct Likelihoods: Decodable {
    let name: String
    let ids: [TokenID]
    let logprob: [Double]
    let meanNLL: Double
  }

  /// How far the log-likelihoods of tokens may be off, by what products are rounded to.
  private struct Tolerance {
    let token, square, mean: Double
    /// Tokens from which on the mean counts: shorter texts are one token's luck.
    let meanLength: Int

    init(_ kernels: CPUKernels) {
      (token, square, mean, meanLength) =
        switch kernels.quantisedProductElement {
        // Measured worst 0.17 and 0.033; over 16K tokens of a novel the mean changes by 2e-4.
        case .bfloat16: (0.3, 0.05, 1.5e-3, 1000)
        // Measured worst 0.44 and 0.104, at the beginning of a text, 0.22 and 0.038 in longer ones; over 8K tokens of a novel the
        // mean changes by 1e-3.
        case .q8_0: (0.6, 0.13, 4e-3, 1000)
        // 16-bit keys and values are all that is rounded: measured worst 0.0075, 2.2e-3 and 3.2e-4.
        default: (0.03, 5e-3, 1e-3, 1)
        }
    }
  }

  @Test(arguments: CPUKernels.supported)
  func likelihoodsEqualThoseOfTransformers(_ kernels: CPUKernels) async throws {
    let model = try await LanguageModel.load(DemoModel.path) { try CPUBackend(kernels: kernels) }
    let tolerance = Tolerance(kernels)
    for item in try fixture("logits", as: [Likelihoods].self) {
      if kernels == .baseline, item.ids.count > 300 { continue }
      let session = try await model.makeSession()
      let values = try await session.negativeLogLikelihoods(of: item.ids)
      expectClose(values.map { Float(-$0) }, item.logprob, within: tolerance.token, item.name)
      let mean = values.reduce(0, +) / Double(values.count)
      if values.count >= tolerance.meanLength {
        #expect(abs(mean - item.meanNLL) < tolerance.mean, "\(item.name)")
      }
      let squares = zip(values, item.logprob).reduce(0) { $0 + ($1.0 + $1.1) * ($1.0 + $1.1) }
      #expect(
        (squares / Double(values.count)).squareRoot() < tolerance.square, "\(item.name)")
    }
  }

  /// What other ways of keeping keys and values change, on one text of 3,000 tokens: measured mean 4e-4
  /// nats at most, root of the mean square 2.3e-2 at most.
  @Test(arguments: [KVType.bf16, .q8])
  func otherTypesOfKeysAndValuesChangeLikelihoodsLittle(_ type: KVType) async throws {
    let model = try await LanguageModel.load(DemoModel.path, kvType: type) { try CPUBackend() }
    let plain = try await LanguageModel.load(DemoModel.path) { try CPUBackend() }
    let item = try #require(
      try fixture("logits", as: [Likelihoods].self).max { $0.ids.count < $1.ids.count })
    let values = try await model.makeSession().negativeLogLikelihoods(of: item.ids)
    let usual = try await plain.makeSession().negativeLogLikelihoods(of: item.ids)
    let count = Double(values.count)
    let mean = zip(values, usual).reduce(0) { $0 + $1.0 - $1.1 } / count
    let square = zip(values, usual).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / count
    // Half a percent of perplexity is 0.005 nats.
    #expect(abs(mean) < 1.5e-3, "mean \(mean)")
    #expect(square.squareRoot() < 0.05, "square \(square.squareRoot())")
  }

  private struct Generation: Decodable {
    let prompt: String
    let promptTokens: Int
    let ids: [TokenID]
    let text: String
  }

  @Test func answersEqualThoseOfTransformers() async throws {
    let model = try await LanguageModel.load(DemoModel.path) { try CPUBackend() }
    for item in try fixture("generation", as: [Generation].self) {
      let session = try await model.makeSession()
      let answer = try await session.collect(
        GenerationRequest(
          .message(ChatMessage(role: .user, content: item.prompt)), maximumTokens: 48))
      #expect(answer.text == item.text)
      #expect(answer.completion.promptTokens == item.promptTokens)
      #expect(answer.completion.completionTokens == item.ids.count)
      #expect(answer.completion.reason == .stop)
      #expect(answer.completion.policy == "dense")
    }
  }
}

struct Collected {
  var text = ""
  var completion: Completion
}

extension Session {
  /// Serves a request to its end.
  func collect(_ request: GenerationRequest) async throws -> Collected {
    var text = ""
    for try await event in respond(to: request) {
      switch event {
      case .text(let more): text += more
      case .finished(let completion): return Collected(text: text, completion: completion)
      case .progress, .token: break
      }
    }
    throw CancellationError()
  }
}
