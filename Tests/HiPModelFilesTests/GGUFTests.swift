// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPModelFiles
import HiPModels
import HiPTensors
import TestSupport
import Testing

/// Writes GGUF files, sound and damaged ones.
private struct GGUFWriter {
  var bytes: [UInt8] = []

  mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
  }

  mutating func put(_ text: String) {
    put(UInt64(text.utf8.count))
    bytes += text.utf8
  }

  mutating func header(version: UInt32 = 3, tensors: UInt64 = 0, pairs: UInt64 = 0) {
    bytes += Array("GGUF".utf8)
    put(version)
    put(tensors)
    put(pairs)
  }

  mutating func pair(_ key: String, _ value: UInt32) {
    put(key)
    put(UInt32(4))
    put(value)
  }

  mutating func tensor(_ name: String, _ dimensions: [UInt64], type: UInt32 = 0, offset: UInt64 = 0)
  {
    put(name)
    put(UInt32(dimensions.count))
    for size in dimensions { put(size) }
    put(type)
    put(offset)
  }

  /// What opening the file says; nil when it opens.
  func problem() throws -> String? {
    let url = URL.temporaryDirectory.appending(path: "\(UUID()).gguf")
    try Data(bytes).write(to: url)
    defer { try? FileManager.default.removeItem(at: url) }
    do {
      _ = try GGUFFile(path: url.path(percentEncoded: false))
      return nil
    } catch {
      #expect(error.path.hasSuffix(".gguf"))
      return error.problem
    }
  }
}

@Suite struct GGUFTests {
  @Test(arguments: [2, 3] as [UInt32])
  func aSoundFileOpens(_ version: UInt32) throws {
    var writer = GGUFWriter()
    writer.header(version: version, tensors: 1, pairs: 1)
    writer.pair("a", 1)
    writer.tensor("t", [4, 2])
    while writer.bytes.count % 32 != 0 { writer.put(UInt8(0)) }
    for _ in 0..<8 { writer.put(UInt32(0)) }
    #expect(try writer.problem() == nil)
  }

  @Test(arguments: [
    ("too many tensors", "number of tensors"), ("too many pairs", "number of metadata entries"),
    ("long key", "length of the key"), ("long list", "length of metadata entry"),
    ("unknown type", "unknown type 99"), ("twice", "twice"), ("nested", "list of lists"),
    ("outside", "outside the file"), ("overflow", "outside the file"),
    ("huge", "more elements than can be counted"), ("misaligned", "not aligned"),
    ("no dimensions", "0 dimensions"), ("zero size", "dimension of 0"),
    ("alignment", "power of two"), ("small alignment", "8 or more"), ("not UTF-8", "not UTF-8"),
    ("version", "version 9"),
    ("big endian", "big-endian"), ("not GGUF", "not a GGUF file"), ("partial block", "do not fill"),
    ("bool", "neither false"),
  ])
  func damageIsNamed(_ damage: String, _ words: String) throws {
    var writer = GGUFWriter()
    switch damage {
    case "too many tensors": writer.header(tensors: .max)
    case "too many pairs": writer.header(pairs: 1 << 62)
    case "long key":
      writer.header(pairs: 1)
      writer.put(UInt64.max)
      writer.bytes += [UInt8](repeating: 0, count: 20)
    case "long list":
      writer.header(pairs: 1)
      writer.put("k")
      writer.put(UInt32(9))
      writer.put(UInt32(4))
      writer.put(UInt64.max / 4)
    case "unknown type":
      writer.header(pairs: 1)
      writer.put("k")
      writer.put(UInt32(99))
    case "twice":
      writer.header(pairs: 2)
      writer.pair("k", 1)
      writer.pair("k", 1)
    case "nested":
      writer.header(pairs: 1)
      writer.put("k")
      writer.put(UInt32(9))
      writer.put(UInt32(9))
      writer.put(UInt64(0))
    case "outside":
      writer.header(tensors: 1)
      writer.tensor("t", [64], offset: 1 << 20)
    case "overflow":
      writer.header(tensors: 1)
      writer.tensor("t", [64], offset: UInt64.max - 31)
    case "huge":
      writer.header(tensors: 1)
      writer.tensor("t", [1 << 40, 1 << 40, 2])
    case "misaligned":
      writer.header(tensors: 1)
      writer.tensor("t", [1], offset: 5)
    case "no dimensions":
      writer.header(tensors: 1)
      writer.tensor("t", [])
    case "zero size":
      writer.header(tensors: 1)
      writer.tensor("t", [0])
    case "alignment":
      writer.header(pairs: 1)
      writer.pair("general.alignment", 24)
    case "small alignment":
      writer.header(pairs: 1)
      writer.pair("general.alignment", 1)
    case "not UTF-8":
      writer.header(pairs: 1)
      writer.put(UInt64(2))
      writer.bytes += [0xff, 0xfe]
      writer.bytes += [UInt8](repeating: 0, count: 8)
    case "version": writer.header(version: 9)
    case "big endian": writer.header(version: UInt32(3).byteSwapped)
    case "not GGUF": writer.bytes = Array("hello, world".utf8)
    case "partial block":
      writer.header(tensors: 1)
      writer.tensor("t", [33], type: 8)
    default:
      writer.header(pairs: 1)
      writer.put("k")
      writer.put(UInt32(7))
      writer.put(UInt8(2))
    }
    // Room, so that it is not the length of the file that is found wrong.
    if !damage.hasPrefix("too") && !damage.hasPrefix("long") {
      writer.bytes += [UInt8](repeating: 0, count: 64)
    }
    let problem = try writer.problem()
    #expect(problem?.contains(words) == true, "\(problem ?? "it opened")")
  }

  @Test func everyTruncationOfTheHeaderIsAnError() throws {
    let data = try Data(contentsOf: URL(filePath: DemoModel.path), options: .alwaysMapped)
    for length in Array(0..<64) + stride(from: 64, to: 400_000, by: 9973) + [data.count - 1] {
      var writer = GGUFWriter()
      writer.bytes = Array(data.prefix(length))
      #expect(try writer.problem() != nil, "\(length) bytes opened")
    }
  }

  @Test func randomDamageNeverTraps() throws {
    let data = Array(try Data(contentsOf: URL(filePath: DemoModel.path)).prefix(300_000))
    var numbers = SeededNumbers(4)
    for _ in 0..<300 {
      var writer = GGUFWriter()
      writer.bytes = data
      for _ in 0..<1 + numbers.index(below: 8) {
        // Mostly in the first fields, where counts stand.
        let place = numbers.index(below: numbers.index(below: 2) == 0 ? 1000 : data.count)
        writer.bytes[place] = UInt8(numbers.index(below: 256))
      }
      _ = try writer.problem()
    }
  }

  @Test func missingAndMisshapenTensorsAreNamed() throws {
    let file = try GGUFFile(path: DemoModel.path)
    #expect(throws: FileError.self) { try file.weight(named: "nothing", rows: 1, columns: 1) }
    do {
      _ = try file.weight(named: "blk.0.attn_q.weight", rows: 512, columns: 511)
      Issue.record("a wrong shape was accepted")
    } catch {
      #expect(error.problem.contains("blk.0.attn_q.weight"))
      #expect(error.problem.contains("[511, 512]"))
    }
  }

  @Test func theDemoModelsArchitectureIsRead() throws {
    let architecture = try ModelPlan(GGUFFile(path: DemoModel.path)).architecture
    #expect(architecture.layerCount == 8)
    #expect(architecture.attention.heads == 8)
    #expect(architecture.attention.kvHeads == 2)
    #expect(architecture.attention.headSize == 64)
    #expect(architecture.trainedLength == 8192)
    #expect(architecture.vocabularySize == 8192)
    #expect(abs(architecture.normEpsilon - 1e-5) < 1e-9)
  }
}

@Suite struct NumPyTests {
  @Test func arraysSurviveAFile() throws {
    let path = URL.temporaryDirectory.appending(path: "\(UUID()).npy").path(percentEncoded: false)
    defer { try? FileManager.default.removeItem(atPath: path) }
    for shape in [[2, 3, 4], [24], [1, 1, 24]] {
      let array = NumPyArray(shape: shape, elements: (0..<24).map { Float($0) / 3 })
      try array.write(to: path)
      #expect(try NumPyArray(path: path) == array)
    }
  }

  @Test func halvesAreRead() throws {
    let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (6,), }"
    var data = Data([0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0])
    data.append(contentsOf: header.utf8)
    for bits: UInt16 in [0x3c00, 0xc000, 0x0001, 0x7c00, 0x8000, 0x3555] {
      data.append(contentsOf: [UInt8(bits & 0xff), UInt8(bits >> 8)])
    }
    let path = URL.temporaryDirectory.appending(path: "\(UUID()).npy")
    try data.write(to: path)
    defer { try? FileManager.default.removeItem(at: path) }
    let array = try NumPyArray(path: path.path(percentEncoded: false))
    #expect(array.elements == [1, -2, 0x1p-24, .infinity, 0, 0.33325195])
  }

  @Test(arguments: ["", "x", "\u{93}NUMPY", "nonsense that is long enough to be read as a header"])
  func otherFilesAreRefused(_ text: String) throws {
    let path = URL.temporaryDirectory.appending(path: "\(UUID()).npy")
    try Data(text.utf8).write(to: path)
    defer { try? FileManager.default.removeItem(at: path) }
    #expect(throws: FileError.self) { try NumPyArray(path: path.path(percentEncoded: false)) }
  }
}
