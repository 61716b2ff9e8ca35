// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPAttention
import HiPCPU
import HiPCompute
import HiPEvaluation
import HiPModels
import InfiniteHiP

struct BenchDecodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode", abstract: "Tokens written per second, at given depths.")

  @Option(
    help: ArgumentHelp(
      "Tokens that are timed, one by one; 64 for a whole round of what is kept.", valueName: "n"))
  var tokens = 16

  @OptionGroup var model: BenchModelOptions
  @OptionGroup var device: BenchDeviceOptions

  mutating func validate() throws {
    guard (1...1_000_000).contains(tokens) else {
      throw ValidationError("--tokens is \(tokens); give 1 to 1000000")
    }
  }

  func run() throws {
    try ModelBench(model, device).run(.decode, tokens: tokens) { bench, start in
      try bench.ask(start)
      // The first steps find cold caches and empty selections.
      for _ in 0..<2 { _ = try bench.write(start) }
      return try (0..<tokens).map { _ in try bench.write(start) }
    }
  }
}

struct BenchPrefillCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prefill", abstract: "Tokens read per second, at given depths.")

  @Option(help: ArgumentHelp("Tokens of a text.", valueName: "n"))
  var tokens = 512

  @Option(help: ArgumentHelp("Times that the text is read.", valueName: "n"))
  var repeats = 3

  @OptionGroup var model: BenchModelOptions
  @OptionGroup var device: BenchDeviceOptions

  mutating func validate() throws {
    guard (1...10_000_000).contains(tokens) else {
      throw ValidationError("--tokens is \(tokens); give 1 to 10000000")
    }
    guard (1...1000).contains(repeats) else {
      throw ValidationError("--repeats is \(repeats); give 1 to 1000")
    }
  }

  func run() throws {
    try ModelBench(model, device).run(.prefill, tokens: tokens) { bench, start in
      _ = try bench.step(min(tokens, 64), start)
      return try (0..<repeats).map { _ in
        bench.cut(to: start.depth)
        return try bench.step(tokens, start)
      }
    }
  }
}

/// Measures steps of a model behind fabricated depths.
private final class ModelBench {
  struct Start {
    let depth: Int
    let attention: LayerAttention
  }

  private let options: BenchModelOptions
  private let json: Bool
  private let backend: CPUBackend
  private let model: DecoderModel
  private let name: String
  private let peaks: MachinePeaks
  private let clock = ContinuousClock()
  private var cache: SequenceCache?

  init(_ options: BenchModelOptions, _ device: BenchDeviceOptions) throws {
    self.options = options
    json = device.json
    backend = try device.makeBackend()
    (model, name) = try options.load(on: backend)
    peaks = backend.measurePeaks()
  }

  /// Reads a question, so that what follows is its answer.
  func ask(_ start: Start) throws {
    guard let cache, let count = start.attention.questionLength(endingAt: start.depth) else {
      return
    }
    cache.truncate(to: start.depth - count)
    _ = try model.ask(tokens(count, in: cache), cache: cache, attention: start.attention)
  }

  /// Writes a token; tokens per second.
  func write(_ start: Start) throws -> Double {
    guard let cache else { return 0 }
    let token = tokens(1, in: cache)[0]
    let time = try clock.measure {
      _ = try model.write(token, cache: cache, attention: start.attention)
    }
    return 1 / (time / .seconds(1))
  }

  private func tokens(_ count: Int, in cache: SequenceCache) -> [Int32] {
    (0..<count).map { Int32((cache.length + $0) * 37 % model.architecture.vocabularySize) }
  }

  /// Takes `count` tokens in; tokens per second.
  func step(_ count: Int, _ start: Start) throws -> Double {
    guard let cache else { return 0 }
    let time = try clock.measure {
      for first in stride(from: 0, to: count, by: DecoderModel.largestStep) {
        let part = min(DecoderModel.largestStep, count - first)
        let isLast = first + part == count
        _ = try model.read(
          tokens(part, in: cache), cache: cache, attention: start.attention,
          logits: isLast ? .last : .none)
      }
    }
    return Double(count) / (time / .seconds(1))
  }

  /// Forgets what stands behind `length`.
  func cut(to length: Int) { cache?.truncate(to: length) }

  func run(
    _ kind: BenchResult.Name, tokens: Int, _ measure: (ModelBench, Start) throws -> [Double]
  ) throws {
    var results: [BenchResult] = []
    if !json {
      BenchReport(machine: peaks, results: results).printMachine()
      Terminal.line("model    \(name); \(backend.name)")
      Terminal.line(
        "\n          depth  policy            kv   median (min to max)     mean  of peak")
    }
    for depth in try options.depthList() {
      for choice in try options.choices() {
        let layout = try layout(choice, tokens: depth)
        let cache = SequenceCache(pool: CachePool(backend: backend, layout: layout))
        self.cache = cache
        try cache.fabricate(depth, seed: 1)
        let attention = LayerAttention(
          choice, trainedLength: model.architecture.trainedLength)
        let speeds = Spread(try measure(self, Start(depth: depth, attention: attention)))
        let result = BenchResult(
          name: kind, depth: depth, tokens: tokens, policy: choice.name,
          kvType: options.kvType.rawValue, tokensPerSecond: speeds,
          attention: depth == 0 ? .real : .fabricated)
        results.append(result)
        if !json { show(result, choice, layout) }
        self.cache = nil
      }
    }
    if json { try Terminal.printJSON(BenchReport(machine: peaks, results: results)) }
  }

  /// Throws when the depth does not fit into memory: the system would end the program instead.
  private func layout(_ choice: AttentionChoice, tokens: Int) throws -> KVLayout {
    try options.kvType.check(headSize: model.architecture.attention.headSize)
    var sketches: [KeySketch] = []
    if case .hierarchical(let pruning) = choice.policy { sketches = pruning.sketches }
    let layout = KVLayout(
      layerCount: model.architecture.layerCount, shape: model.architecture.attention,
      element: options.kvType.element, sketches: sketches)
    let needed = model.streamedByteCount + layout.byteCount(forTokens: tokens)
    guard needed < MachineMemory.physicalByteCount else {
      throw ValidationError(
        "\(sizeText(tokens)) tokens with \"\(choice.name)\" take \(byteText(needed)); this machine has "
          + byteText(MachineMemory.physicalByteCount))
    }
    return layout
  }

  private func show(_ result: BenchResult, _ choice: AttentionChoice, _ layout: KVLayout) {
    let speed = result.tokensPerSecond
    func text(_ value: Double) -> String { decimal(value, value < 100 ? 1 : 0) }
    let share: String
    switch result.name {
    case .decode:
      let bytes = layout.bytesRead(
        byTokenAt: result.depth, choice, trainedLength: model.architecture.trainedLength)
      let floor = Double(model.streamedByteCount + bytes) / (peaks.readGBs * 1e9)
      share = "\(decimal(floor * speed.mean * 100, 0)) % reads"
    case .prefill:
      let operations = 2 * Double(model.multiplicationCount) * speed.mean / 1e9
      let peak = max(peaks.bf16GFLOPs, peaks.fp32GFLOPs)
      share = "\(decimal(operations / peak * 100, 0)) % products"
    }
    let spread = "\(text(speed.median)) (\(text(speed.min)) to \(text(speed.max)))"
    let policy = choice.name.split(separator: "/").last.map(String.init) ?? choice.name
    Terminal.line(
      result.name.rawValue.padded(to: 8) + pad(sizeText(result.depth), 7) + "  "
        + policy.padded(to: 17) + " " + result.kvType.padded(to: 4) + " "
        + spread.padded(to: 21) + pad(text(speed.mean), 7) + "  " + share)
  }
}

extension String {
  /// Filled up with blanks behind.
  fileprivate func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
}
