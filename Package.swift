// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableExperimentalFeature("Lifetimes"),
  .strictMemorySafety(),
]

/// Targets whose folder explains itself.
let readMe: Set<String> = ["HiPAttention", "HiPCompute"]

/// A Swift target of this package with the settings that all of them share.
func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(
    name: name, dependencies: dependencies, exclude: readMe.contains(name) ? ["README.md"] : [],
    swiftSettings: settings)
}

/// A test target with the same settings; tests handle raw memory too freely for strict memory safety.
func tests(
  _ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []
) -> Target {
  .testTarget(
    name: name, dependencies: dependencies + ["TestSupport"], resources: resources,
    swiftSettings: Array(settings.dropLast()))
}

let package = Package(
  name: "InfiniteHiP",
  platforms: [.macOS(.v26)],
  products: [
    .library(
      name: "InfiniteHiP",
      targets: [
        "InfiniteHiP", "HiPCPU", "HiPAttention", "HiPCompute", "HiPModelFiles", "HiPModels",
        "HiPTemplates", "HiPTensors", "HiPTokenization", "HiPKVStore", "HiPJSON",
      ]),
    .executable(name: "infinitehip", targets: ["HiPCommand"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    // Kernels in C: one file per instruction set, function tables chosen at run time.
    .target(name: "CHiPSIMD"),
    // Element types, host memory and mapped files.
    module("HiPTensors"),
    // Policies, pruning stages, position schemes and the reference implementation.
    module("HiPAttention", ["HiPTensors"]),
    // Which sequence owns which block of the KV cache: integers only.
    module("HiPKVStore"),
    // A reader of JSON that keeps the order of members.
    module("HiPJSON"),
    // Byte-level BPE, SentencePiece, incremental decoding and chat templates.
    module("HiPTokenization", ["HiPTemplates", "HiPJSON"]),
    // The language of chat templates.
    module("HiPTemplates", ["HiPJSON"]),
    // GGUF and NumPy files, Hugging Face folders.
    module("HiPModelFiles", ["HiPTensors", "HiPJSON"]),
    // The seam between models and devices.
    module("HiPCompute", ["HiPTensors", "HiPAttention", "HiPKVStore"]),
    // The CPU backend: thread pool and dispatch to the C tables.
    // Its Swift is pointer code throughout: marking every expression would mark nothing.
    .target(
      name: "HiPCPU",
      dependencies: ["HiPCompute", "CHiPSIMD", "HiPTensors", "HiPAttention", "HiPKVStore"],
      swiftSettings: Array(settings.dropLast())),
    // Model families as data, and the one forward pass.
    module(
      "HiPModels", ["HiPCompute", "HiPModelFiles", "HiPTensors", "HiPAttention", "HiPKVStore"]),
    // The public library: models, sessions, sampling, events.
    module(
      "InfiniteHiP",
      [
        "HiPModels", "HiPCompute", "HiPKVStore", "HiPAttention", "HiPTokenization", "HiPTemplates",
        "HiPModelFiles", "HiPTensors", "HiPJSON",
      ]),
    // Random weights and caches, shapes of well-known models, and the bytes that decoding has to load.
    module(
      "HiPBench",
      [
        "InfiniteHiP", "HiPModels", "HiPModelFiles", "HiPCompute", "HiPAttention",
        "HiPTokenization", "HiPTensors",
      ]),
    // Tasks with known answers, attention recall, and reports of both.
    module(
      "HiPEvaluation",
      [
        "InfiniteHiP", "HiPModels", "HiPCompute", "HiPAttention", "HiPTokenization", "HiPTensors",
      ]),
    // The command `infinitehip`: the only target that names a backend.
    .executableTarget(
      name: "HiPCommand",
      dependencies: [
        "InfiniteHiP", "HiPBench", "HiPEvaluation", "HiPCPU", "HiPCompute", "HiPModels",
        "HiPModelFiles", "HiPTokenization", "HiPTemplates", "HiPTensors", "HiPAttention",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: settings),

    .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: settings),
    tests("HiPKVStoreTests", ["HiPKVStore"]),
    tests("HiPTemplatesTests", ["HiPTemplates"]),
    tests("HiPAttentionTests", ["HiPAttention"]),
    tests(
      "HiPCPUTests", ["HiPCPU", "HiPCompute", "CHiPSIMD", "HiPTensors", "HiPAttention"],
      resources: [.copy("Fixtures")]),
    tests("HiPModelFilesTests", ["HiPModelFiles", "HiPModels", "HiPTensors", "HiPAttention"]),
    tests(
      "HiPTokenizationTests",
      ["HiPTokenization", "HiPTemplates", "HiPModelFiles", "HiPJSON", "InfiniteHiP"],
      resources: [.copy("Fixtures")]),
    tests(
      "HiPEvaluationTests",
      ["HiPEvaluation", "InfiniteHiP", "HiPAttention", "HiPCPU", "HiPTokenization"]),
    tests(
      "InfiniteHiPTests",
      ["InfiniteHiP", "HiPModels", "HiPCompute", "HiPAttention", "HiPTokenization"]),
    tests(
      "ConformanceTests",
      [
        "InfiniteHiP", "HiPBench", "HiPCPU", "HiPCompute", "HiPAttention", "HiPModels",
        "HiPKVStore", "HiPTensors",
      ],
      resources: [.copy("Fixtures")]),
    tests(
      "EndToEndTests",
      [
        "InfiniteHiP", "HiPBench", "HiPModels", "HiPCPU", "HiPCompute", "HiPAttention",
        "HiPTokenization", "HiPModelFiles", "HiPTensors", "HiPTemplates", "HiPJSON",
      ],
      resources: [.copy("Fixtures")]),
  ]
)
