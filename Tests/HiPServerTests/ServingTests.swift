// SPDX-License-Identifier: Apache-2.0

import CoreMetrics
import Foundation
import HiPJSON
import HiPModelStore
import HiPServer
import HiPTensors
import Testing

@Suite struct ServingTests {
  @Test(arguments: [
    ("300", KeepAlive.seconds(300)), ("5m", .seconds(300)), ("1h30m", .seconds(5400)),
    ("1.5s", .seconds(1.5)), ("250ms", .seconds(0.25)), ("-1", .forever), ("-1m", .forever),
    ("0", .seconds(0)), ("0s", .seconds(0)),
  ])
  func durationsAreReadAsGoWritesThem(_ text: String, _ expected: KeepAlive) {
    #expect(KeepAlive(text) == expected)
  }

  @Test(arguments: [
    "nan", "inf", "-inf", "1e400", "0x10", "", "m", "5 minutes", "five", "1h30", "--1s", "5x",
  ])
  func whatIsNoDurationIsRefused(_ text: String) { #expect(KeepAlive(text) == nil) }

  @Test func soManyRunSoManyWaitAndTheRestIsRefused() async throws {
    let admission = Admission(parallel: 2, queue: 1)
    try await admission.enter()
    try await admission.enter()
    let third = Task { try await admission.enter() }
    while admission.waiting == 0 { try await Task.sleep(for: .milliseconds(1)) }
    await #expect(throws: (any Error).self) { try await admission.enter() }
    admission.leave()
    try await third.value
    #expect(admission.running == 2 && admission.waiting == 0)
    // Who gives up while waiting takes no place.
    let fourth = Task { try await admission.enter() }
    while admission.waiting == 0 { try await Task.sleep(for: .milliseconds(1)) }
    fourth.cancel()
    await #expect(throws: CancellationError.self) { try await fourth.value }
    admission.leave()
    admission.leave()
    #expect(admission.running == 0)
    admission.close()
    await #expect(throws: (any Error).self) { try await admission.enter() }
  }

  @Test func metricsAreWrittenAsPrometheusReadsThem() {
    let registry = PrometheusRegistry()
    registry.makeCounter(label: "a_total", dimensions: [("x", "1\"\n")]).increment(by: 3)
    registry.makeRecorder(label: "b_seconds", dimensions: [], aggregate: true).record(0.3)
    registry.makeRecorder(label: "c", dimensions: [], aggregate: false).record(2.5)
    let text = registry.text
    #expect(text.contains("# TYPE a_total counter\na_total{x=\"1\\\"\\n\"} 3\n"))
    #expect(text.contains("b_seconds_bucket{le=\"0.25\"} 0\nb_seconds_bucket{le=\"0.5\"} 1\n"))
    #expect(
      text.contains("b_seconds_bucket{le=\"+Inf\"} 1\nb_seconds_sum 0.3\nb_seconds_count 1\n"))
    #expect(text.contains("# TYPE c gauge\nc 2.5\n"))
  }
}

/// Names, digests and manifests of a store.
@Suite struct ModelStoreTests {
  @Test(arguments: [
    ("llama3.2", "llama3.2:latest"), ("llama3.2:1b", "llama3.2:1b"), ("me/x:y", "me/x:y"),
    ("host:5000/me/x", "host:5000/me/x:latest"), ("https://host/me/x:y", "host/me/x:y"),
  ])
  func namesAreReadAndWritten(_ text: String, _ written: String) throws {
    #expect(try #require(ModelName(text)).description == written)
  }

  @Test(arguments: [
    "", ":", "a:", ":b", "../x", "a/../b", "..", ".hidden", "a b", "a/b/c/d", "a\\b", "é", "a:b/c",
    "a\0", "%2e%2e", "host:port/me/x", String(repeating: "a", count: 81),
  ])
  func whatIsNoNameIsRefused(_ text: String) { #expect(ModelName(text) == nil) }

  @Test func digestsAreNothingElse() {
    let hex = String(repeating: "0a", count: 32)
    #expect(Digest("sha256:" + hex)?.hex == hex)
    for wrong in [
      hex, "sha256:" + hex.dropLast(), "sha256:../" + hex, "sha256:" + hex.uppercased(),
    ] {
      #expect(Digest(wrong) == nil)
    }
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    #expect(Digest(of: [UInt8]()).hex == empty)
  }

  private func folder() -> String {
    NSTemporaryDirectory() + "store-\(UUID().uuidString)"
  }

  @Test func modelsAreMadeCopiedAndDeleted() throws {
    let store = ModelStore(root: folder(), isWritable: true)
    defer { try? FileManager.default.removeItem(atPath: store.root) }
    var creation = ModelCreation()
    creation.files = [try store.add(Array("GGUF".utf8), .model).digest]
    creation.template = "{{ .Prompt }}"
    creation.parameters = ["temperature": 0, "stop": ["x"]]
    let name = try #require(ModelName("first"))
    _ = try creation.write(as: name, into: store, config: ["model_format": "gguf"])
    let first = try #require(store.models().first)
    #expect(first.name == name && first.template == "{{ .Prompt }}")
    #expect(first.config["model_format"]?.text == "gguf")
    #expect(first.path.map { FileManager.default.fileExists(atPath: $0) } == true)
    // One made of it keeps what it does not change.
    var second = ModelCreation()
    second.base = first
    second.parameters = ["temperature": 1]
    _ = try second.write(
      as: try #require(ModelName("Second:x")), into: store, config: first.config)
    let catalog = ModelCatalog(own: store)
    let made = try #require(catalog.model(named: "second:X"))
    #expect(made.parameters == ["stop": ["x"], "temperature": 1])
    #expect(made.template == first.template)
    try store.delete(name)
    #expect(catalog.model(named: "first") == nil)
    // Blobs that the other one needs are still there.
    #expect(made.path.map { FileManager.default.fileExists(atPath: $0) } == true)
    try store.delete(made.name)
    #expect(made.path.map { FileManager.default.fileExists(atPath: $0) } == false)
  }

  @Test func aReadStoreIsNeverChanged() throws {
    let root = folder()
    let store = ModelStore(root: root, isWritable: false)
    #expect(store.models().isEmpty)
    #expect(throws: FileError.self) { try store.add([1], .license) }
    #expect(!FileManager.default.fileExists(atPath: root))
  }

  @Test func aWrongDigestLeavesNothing() throws {
    let store = ModelStore(root: folder(), isWritable: true)
    defer { try? FileManager.default.removeItem(atPath: store.root) }
    let digest = Digest(of: Array("right".utf8))
    let partial = try store.makePartialFile(for: digest)
    try Data("wrong".utf8).write(to: URL(filePath: partial))
    #expect(throws: FileError.self) { try store.commit(partial, as: digest) }
    #expect(!store.contains(digest) && !FileManager.default.fileExists(atPath: partial))
  }
}
