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
let readMe: Set<String> = ["HiPAttention", "HiPCUDA", "HiPCompute"]

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

/// The page at `/ui`, which lies in the binary.
let pageFiles = [
  "index.html", "style.css", "api.js", "app.js", "chat.js", "document.js", "format.js",
  "passages.js", "progress.js", "stream.js",
]

let package = Package(
  name: "InfiniteHiP",
  platforms: [.macOS(.v26)],
  products: [
    .library(
      name: "InfiniteHiP",
      targets: [
        "InfiniteHiP", "HiPCPU", "HiPCUDA", "HiPAttention", "HiPCompute", "HiPModelFiles",
        "HiPModels", "HiPTemplates", "HiPTensors", "HiPTokenization", "HiPKVStore", "HiPJSON",
        "HiPGrammar",
      ]),
    .executable(name: "infinitehip", targets: ["HiPCommand"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
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
    // JSON that keeps the order of members, read and written.
    module("HiPJSON"),
    // Grammars of answers, JSON schemas among them, as masks over a vocabulary.
    module("HiPGrammar", ["HiPJSON"]),
    // Byte-level BPE, SentencePiece, incremental decoding and chat templates.
    module("HiPTokenization", ["HiPTemplates", "HiPJSON"]),
    // The language of chat templates.
    module("HiPTemplates", ["HiPJSON"]),
    // GGUF and NumPy files, Hugging Face folders.
    module("HiPModelFiles", ["HiPTensors", "HiPJSON"]),
    // Files of keys and values: segments of texts by their digest, saved contexts, caps and locks.
    module(
      "HiPKVFiles", ["CHiPSIMD", .product(name: "Crypto", package: "swift-crypto")]),
    // The seam between models and devices.
    module("HiPCompute", ["HiPTensors", "HiPAttention", "HiPKVStore"]),
    // The CPU backend: thread pool and dispatch to the C tables.
    // Its Swift is pointer code throughout: marking every expression would mark nothing.
    .target(
      name: "HiPCPU",
      dependencies: ["HiPCompute", "CHiPSIMD", "HiPTensors", "HiPAttention", "HiPKVStore"],
      swiftSettings: Array(settings.dropLast())),
    // CUDA's interfaces as tables that are filled at run time, and the sources of the GPU kernels, embedded.
    .target(name: "CHiPCUDA", exclude: ["kernels"]),
    // NVIDIA GPUs: the driver found at run time, memory, streams, graphs, kernels compiled for the device.
    module(
      "HiPCUDA",
      [
        "HiPCompute", "CHiPCUDA", "HiPTensors", "HiPAttention", "HiPKVStore",
        .product(name: "Crypto", package: "swift-crypto"),
      ]),
    // Model families as data, and the one forward pass.
    module(
      "HiPModels", ["HiPCompute", "HiPModelFiles", "HiPTensors", "HiPAttention", "HiPKVStore"]),
    // The public library: models, sessions, sampling, events.
    module(
      "InfiniteHiP",
      [
        "HiPModels", "HiPCompute", "HiPKVFiles", "HiPKVStore", "HiPAttention", "HiPTokenization",
        "HiPTemplates", "HiPGrammar", "HiPModelFiles", "HiPTensors", "HiPJSON",
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
    // Models by name: Ollama's store, folders of files, and pulling from a registry.
    module(
      "HiPModelStore",
      [
        "HiPJSON", "HiPModelFiles", "HiPTensors",
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    // The HTTP server: wire forms, routes, loaded models, limits, metrics and the page.
    .target(
      name: "HiPServer",
      dependencies: [
        "InfiniteHiP", "HiPModelStore", "HiPModels", "HiPAttention", "HiPTokenization",
        "HiPTemplates", "HiPGrammar", "HiPModelFiles", "HiPTensors", "HiPJSON",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "CoreMetrics", package: "swift-metrics"),
        .product(name: "Metrics", package: "swift-metrics"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "UnixSignals", package: "swift-service-lifecycle"),
      ],
      resources: pageFiles.map { .embedInCode("Page/" + $0) },
      swiftSettings: settings),
    // The command `infinitehip`: the only target that names a backend.
    .executableTarget(
      name: "HiPCommand",
      dependencies: [
        "InfiniteHiP", "HiPBench", "HiPEvaluation", "HiPServer", "HiPModelStore", "HiPCPU",
        "HiPCUDA",
        "HiPCompute", "HiPModels", "HiPModelFiles", "HiPTokenization", "HiPTemplates", "HiPTensors",
        "HiPAttention",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),

    .target(
      name: "TestSupport", dependencies: ["HiPCUDA"], path: "Tests/TestSupport",
      swiftSettings: settings),
    tests("HiPGrammarTests", ["HiPGrammar", "HiPJSON"]),
    tests("HiPKVStoreTests", ["HiPKVStore"]),
    tests("HiPKVFilesTests", ["HiPKVFiles", "CHiPSIMD"]),
    tests("HiPTemplatesTests", ["HiPTemplates"]),
    tests("HiPAttentionTests", ["HiPAttention"]),
    tests(
      "HiPCPUTests", ["HiPCPU", "HiPCompute", "CHiPSIMD", "HiPTensors", "HiPAttention"],
      resources: [.copy("Fixtures")]),
    // A driver and a compiler without a GPU.
    .target(name: "FakeCUDA", dependencies: ["CHiPCUDA"], path: "Tests/FakeCUDA"),
    tests(
      "HiPCUDATests",
      [
        "HiPCUDA", "CHiPCUDA", "FakeCUDA", "HiPCompute", "HiPTensors", "HiPAttention", "HiPKVStore",
      ]),
    tests("HiPModelFilesTests", ["HiPModelFiles", "HiPModels", "HiPTensors", "HiPAttention"]),
    tests(
      "HiPTokenizationTests",
      ["HiPTokenization", "HiPTemplates", "HiPModelFiles", "HiPJSON", "InfiniteHiP"],
      resources: [.copy("Fixtures")]),
    tests(
      "HiPEvaluationTests",
      ["HiPEvaluation", "InfiniteHiP", "HiPAttention", "HiPCPU", "HiPTensors", "HiPTokenization"]),
    tests(
      "InfiniteHiPTests",
      ["InfiniteHiP", "HiPModels", "HiPCompute", "HiPAttention", "HiPTokenization"]),
    tests(
      "ConformanceTests",
      [
        "InfiniteHiP", "HiPBench", "HiPCPU", "HiPCUDA", "HiPCompute", "HiPAttention", "HiPModels",
        "HiPKVStore", "HiPTensors",
      ],
      resources: [.copy("Fixtures")]),
    tests(
      "EndToEndTests",
      [
        "InfiniteHiP", "HiPBench", "HiPModels", "HiPCPU", "HiPCUDA", "HiPCompute", "HiPAttention",
        "HiPTokenization", "HiPModelFiles", "HiPTensors", "HiPTemplates", "HiPJSON", "HiPGrammar",
      ],
      resources: [.copy("Fixtures")]),
    tests(
      "HiPServerTests",
      [
        "HiPServer", "HiPModelStore", "HiPTokenization", "HiPTemplates", "HiPTensors", "HiPJSON",
        .product(name: "CoreMetrics", package: "swift-metrics"),
      ]),
  ]
)
