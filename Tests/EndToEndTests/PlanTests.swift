// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPCPU
import HiPCompute
import HiPModelFiles
import HiPModels
import HiPTensors
import InfiniteHiP
import TestSupport
import Testing

/// Every family's plan, made from a configuration, on every device against the reference in double precision.
@Suite struct PlanTests {
  /// What every configuration has unless it says otherwise.
  private static var base: [String: Any] {
    [
      "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 96, "max_position_embeddings": 128,
      "rms_norm_eps": 1e-5,
      "rope_theta": 10000.0, "tie_word_embeddings": true,
    ]
  }

  static var families: [(name: String, config: [String: Any])] {
    [
      (
        "llama",
        [
          "model_type": "llama",
          "rope_scaling": [
            "rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 32,
          ],
        ]
      ),
      ("mistral", ["model_type": "mistral", "sliding_window": 9]),
      (
        "qwen2",
        [
          "model_type": "qwen2", "use_sliding_window": true, "sliding_window": 7,
          "max_window_layers": 2,
        ]
      ),
      (
        "qwen3",
        [
          "model_type": "qwen3",
          "rope_scaling": ["type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32],
        ]
      ),
      (
        "qwen3_moe",
        [
          "model_type": "qwen3_moe", "num_experts": 6, "num_experts_per_tok": 2,
          "moe_intermediate_size": 32, "norm_topk_prob": false,
        ]
      ),
      (
        "gemma2",
        [
          "model_type": "gemma2", "attn_logit_softcapping": 4.0, "final_logit_softcapping": 9.0,
          "query_pre_attn_scalar": 24, "sliding_window": 8,
        ]
      ),
      (
        "gemma3",
        [
          "model_type": "gemma3_text", "sliding_window": 8, "sliding_window_pattern": 2,
          "rope_scaling": ["rope_type": "linear", "factor": 8.0],
        ]
      ),
      (
        "phi3",
        [
          "model_type": "phi3", "partial_rotary_factor": 0.5,
          "original_max_position_embeddings": 20,
          "rope_scaling": [
            "type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.5],
            "long_factor": [1.0, 2.0, 4.0, 8.0],
          ],
        ]
      ),
      ("smollm3", ["model_type": "smollm3", "no_rope_layers": [1, 0, 1, 0]]),
      ("olmo2", ["model_type": "olmo2"]),
      (
        "granite",
        [
          "model_type": "granite", "attention_multiplier": 0.1, "embedding_multiplier": 6.0,
          "residual_multiplier": 0.3, "logits_scaling": 4.0,
        ]
      ),
      (
        "exaone4", ["model_type": "exaone4", "sliding_window": 8, "sliding_window_pattern": "LLLG"]
      ),
      (
        "gpt_oss",
        [
          "model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2,
          "intermediate_size": 32, "sliding_window": 8,
        ]
      ),
    ]
  }

  /// The plan of a configuration, with weights from a seed.
  static func plan(_ config: [String: Any]) throws -> ModelPlan {
    let folder = URL.temporaryDirectory.appending(path: "plan-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try JSONSerialization.data(withJSONObject: base.merging(config) { $1 })
      .write(to: folder.appending(path: "config.json"))
    // Without tensors: those come from the seed.
    try Data([2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d])
      .write(to: folder.appending(path: "model.safetensors"))
    let plan = try ModelPlan(HuggingFaceFolder(path: folder.path()))
    let weights = SeededWeights(hasBiases: true) { name, values in
      // Norms of Gemma hold what they differ by from 1.
      if plan.weightMap.normOffset == 1, name.contains("norm") { values = values.map { $0 - 1 } }
    }
    return ModelPlan(plan.architecture, plan.weightMap, from: weights)
  }

  @Test(arguments: families.indices, CPUKernels.supported)
  func forwardEqualsTheReference(_ family: Int, _ kernels: CPUKernels) throws {
    let (name, config) = Self.families[family]
    let plan = try Self.plan(config)
    let model = try DecoderModel(plan, on: CPUBackend(threads: 2, kernels: kernels))
    var numbers = SeededNumbers(5)
    let ids = (0..<48).map { _ in Int32(numbers.index(below: 96)) }
    let expected = try ReferenceDecoder(plan: plan).logProbabilities(of: ids)
    let runner = ModelRunner(model, capacity: 1 << 28)
    let id = runner.open(model.architecture.kvFormat(.f32, [.dense]))
    try runner.cache(id).reserve(ids.count)
    let attention = LayerAttention(
      try #require(AttentionChoice.named("dense")), trainedLength: model.architecture.trainedLength)
    let output = try runner.run(
      StepPlan([
        SequenceSlice(
          sequence: id, tokens: Array(ids.dropLast()), start: 0, length: ids.count, kind: .score,
          attention: attention,
          output: .negativeLogLikelihoods(Array(ids.dropFirst()), alternatives: 0))
      ]))[0]
    if let failure = output.failure { throw failure }
    // Float32 against double: measured worst 2e-5; factors in bfloat16 2^-9 each: 0.2, and more where experts change.
    let allowed =
      kernels.productElement == .float32
      ? 1e-4 : plan.architecture.layers[0].feedForward.experts == nil ? 0.6 : 3
    expectClose(output.negativeLogLikelihoods.map { Float(-$0) }, expected, within: allowed, name)
  }

  /// What lies behind the windows of sliding layers is given back, and nothing changes: in one sequence, in a fork, and in
  /// memory that was used before.
  @Test func slidingLayersLetGoOfWhatNobodyReads() throws {
    let config = try #require(Self.families.first { $0.name == "gemma3" }).config
    let plan = try Self.plan(config)
    var numbers = SeededNumbers(9)
    let ids = (0..<3000).map { _ in Int32(numbers.index(below: 96)) }
    let attention = LayerAttention(
      try #require(AttentionChoice.named("dense")), trainedLength: 128)
    func runner() throws -> ModelRunner {
      ModelRunner(
        try DecoderModel(plan, on: CPUBackend(threads: 2, kernels: .baseline)), capacity: 1 << 28)
    }
    func score(_ runner: ModelRunner, _ id: SequenceID, _ part: Range<Int>) throws -> [Double] {
      try runner.cache(id).reserve(part.count)
      return try runner.run(
        StepPlan([
          SequenceSlice(
            sequence: id, tokens: Array(ids[part]), start: part.lowerBound, kind: .score,
            attention: attention, output: .negativeLogLikelihoods(Array(ids[part]), alternatives: 0)
          )
        ]))[0].negativeLogLikelihoods
    }
    let runner = try runner()
    let format = runner.model.architecture.kvFormat(.f32, [.dense])
    #expect(format.sliding?.layers == [0, 2] && format.sliding?.window == 8)
    #expect(format.byteCount(forTokens: 64_000) < format.blockByteCount * 501 + 500_000)
    // Without windows in the format nothing is given back.
    let keeping = KVFormat(
      layerCount: 4, shape: format.shape, element: .float32, sketches: [])
    let (letting, kept) = (runner.open(format), runner.open(keeping))
    for start in stride(from: 0, to: 2000, by: 1000) {
      #expect(
        try score(runner, letting, start..<start + 1000)
          == score(runner, kept, start..<start + 1000))
    }
    let fork = runner.fork(letting)
    let rest = try score(runner, kept, 2000..<3000)
    #expect(try score(runner, fork, 2000..<3000) == rest)
    #expect(try score(runner, letting, 2000..<3000) == rest)
    runner.close(letting)
    runner.close(fork)
    // The same slots once more.
    let again = runner.open(format)
    #expect(try score(runner, again, 0..<1000) == score(runner, runner.open(keeping), 0..<1000))
  }

  @Test func whatFilesLeaveUnsaidIsTheFamilys() throws {
    func plan(_ config: [String: Any]) throws -> DecoderArchitecture {
      try Self.plan(config).architecture
    }
    // A factor without a type means linear.
    let linear = try plan([
      "model_type": "llama", "rope_scaling": ["type": "linear", "factor": 4.0],
    ])
    #expect(try plan(["model_type": "llama", "rope_scaling": ["factor": 4.0]]) == linear)
    // A window as long as what the model knows is none.
    let full = try plan(["model_type": "mistral"])
    #expect(try plan(["model_type": "mistral", "sliding_window": 128]) == full)
    #expect(try plan(["model_type": "mistral", "sliding_window": NSNull()]) == full)
    #expect(try plan(["model_type": "mistral", "sliding_window": 127]) != full)
    // Gemma 2 is capped unless it says that it is not.
    #expect(try plan(["model_type": "gemma2"]).attention.softCap == 50)
    #expect(try plan(["model_type": "gemma2"]).scales.logitSoftCap == 30)
    let uncapped = try plan(["model_type": "gemma2", "attn_logit_softcapping": NSNull()])
    #expect(uncapped.attention.softCap == nil)
    // Within a model that sees as well, Gemma 3 does not name its heads.
    let text: [String: Any] = [
      "model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 64,
      "num_hidden_layers": 6, "sliding_window": 16,
    ]
    let inner = try plan(["model_type": "gemma3", "text_config": text])
    #expect(inner.attention.heads == 8 && inner.attention.headSize == 256)
    #expect(inner.trainedLength == 131_072)
  }

  /// An embedding that serves as the output matrix only where the folder says so, or says nothing.
  @Test func aMissingOutputMatrixIsAnError() throws {
    let untied = try Self.plan(["model_type": "llama", "tie_word_embeddings": false])
    #expect(throws: (any Error).self) {
      try DecoderModel(
        ModelPlan(untied.architecture, untied.weightMap, from: Headless()),
        on: CPUBackend(threads: 1))
    }
    let tied = try Self.plan(["model_type": "llama"])
    _ = try DecoderModel(
      ModelPlan(tied.architecture, tied.weightMap, from: Headless()), on: CPUBackend(threads: 1))
  }

  private struct Headless: WeightSource {
    let seeded = SeededWeights { _, _ in }
    let path = "a model without an output matrix"
    let names: [String] = []

    func hasWeight(named name: String) -> Bool { seeded.hasWeight(named: name) }

    func weight(named name: String, rows: Int, columns: Int) throws(FileError) -> Weight {
      guard name != "lm_head.weight" else { throw FileError(path: path, problem: "no \(name)") }
      return try seeded.weight(named: name, rows: rows, columns: columns)
    }
  }

  @Test func whatAFamilyCannotBeIsRefused() throws {
    let wrong: [([String: Any], String)] = [
      (["model_type": "gemma2", "attn_logit_softcapping": 1e-50], "attn_logit_softcapping"),
      (
        [
          "model_type": "qwen3",
          "rope_scaling": [
            "type": "yarn", "factor": 2e9, "original_max_position_embeddings": 1 << 32,
          ],
        ], "not possible"
      ), (["model_type": "llama", "rope_scaling": "linear"], "no object"),
      (["model_type": "llama", "rope_theta": ["a": 1]], "an object"),
      (
        [
          "model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2,
          "intermediate_size": 40,
        ], "multiple of 16"
      ),
      (["model_type": "mamba"], "not supported"),
      (["model_type": "llama", "hidden_act": "relu"], "hidden_act"),
      (["model_type": "llama", "rope_scaling": ["rope_type": "spiral", "factor": 2]], "spiral"),
      (["model_type": "llama", "head_dim": 24], "multiple of 16"),
      (
        [
          "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 5,
          "moe_intermediate_size": 32,
        ], "num_experts_per_tok"
      ),
      (["model_type": "smollm3", "no_rope_layers": [1]], "no_rope_layers"),
      (
        ["model_type": "gemma3_text", "sliding_window": 4, "layer_types": ["x", "x", "x", "x"]],
        "layer_types"
      ),
      (
        [
          "model_type": "phi3",
          "rope_scaling": ["type": "longrope", "short_factor": [1], "long_factor": [1]],
        ], "short_factor"
      ),
    ]
    for (config, words) in wrong {
      let error = #expect(throws: (any Error).self) { try Self.plan(config) }
      #expect("\(error.map { "\($0)" } ?? "")".contains(words), "\(config)")
    }
  }
}
