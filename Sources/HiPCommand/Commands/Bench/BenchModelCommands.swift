// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPAttention
import HiPBench
import HiPCPU
import HiPCompute
import HiPEvaluation
import HiPModels
import HiPTensors
import InfiniteHiP

struct BenchDecodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode", abstract: "Tokens decoded per second, at given depths.")

  @Option(
    help: ArgumentHelp(
      "Tokens that are timed, one by one; 64 for a whole round of what is kept.", valueName: "n"))
  var tokens = 16

  @Option(
    help: ArgumentHelp(
      "Sequences that decode together, as 1,4; the speed is that of all.", valueName: "list"))
  var sequences = "1"

  @OptionGroup var model: BenchModelOptions
  @OptionGroup var device: BenchDeviceOptions

  mutating func validate() throws {
    guard (1...1_000_000).contains(tokens) else {
      throw ValidationError("--tokens is \(tokens); give 1 to 1000000")
    }
    _ = try counts()
  }

  private func counts() throws -> [Int] {
    let counts = try sequences.split(separator: ",").map { part in
      guard let count = Int(part), (1...DecoderModel.largestDecode).contains(count) else {
        throw ValidationError(
          "--sequences has \"\(part)\"; give numbers from 1 to \(DecoderModel.largestDecode)")
      }
      return count
    }
    guard !counts.isEmpty else { throw ValidationError("--sequences names no number") }
    return counts
  }

  func run() throws {
    let clock = ContinuousClock()
    try ModelBench(model, device).run(.decode, tokens: tokens, sequences: counts()) {
      bench, count in
      try bench.prefillQuestion(answerTokens: tokens + 3)
      // The first steps find cold caches and empty selections.
      for _ in 0..<2 { try bench.decode() }
      return try (0..<tokens).map { _ in
        Double(count) / (try clock.measure { try bench.decode() } / .seconds(1))
      }
    }
  }
}

struct BenchPrefillCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prefill", abstract: "Tokens of a prompt per second, at given depths.")

  @Option(help: ArgumentHelp("Tokens of the prompt.", valueName: "n"))
  var tokens = 512

  @Option(help: ArgumentHelp("Times that it is prefilled.", valueName: "n"))
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
    let clock = ContinuousClock()
    try ModelBench(model, device).run(.prefill, tokens: tokens, sequences: [1]) { bench, _ in
      try bench.prefill(min(tokens, 64))
      return try (0..<repeats).map { _ in
        Double(tokens) / (try clock.measure { try bench.prefill(tokens) } / .seconds(1))
      }
    }
  }
}

/// Measures steps of a model behind random caches.
private final class ModelBench {
  private let options: BenchModelOptions
  private let json: Bool
  private let backend: CPUBackend
  private let model: DecoderModel
  private let name: String
  private let peaks: MachinePeaks

  init(_ options: BenchModelOptions, _ device: BenchDeviceOptions) throws {
    self.options = options
    json = device.json
    backend = try device.makeBackend()
    (model, name) = try options.load(on: backend)
    peaks = try backend.measurePeaks()
  }

  func run(
    _ kind: BenchResult.Name, tokens: Int, sequences: [Int],
    _ measure: (SequenceBench, _ count: Int) throws -> [Double]
  ) throws {
    var results: [BenchResult] = []
    if !json {
      BenchReport(peaks: peaks, device: backend.name, results: results).printMachine()
      Terminal.line("model    \(name); \(backend.name)")
      Terminal.line(
        "\n          depth  policy           kv    n  median (min to max)     mean  of peak")
    }
    for depth in try options.depthList() {
      for choice in try options.choices() {
        for count in sequences {
          let format = try format(choice, tokens: depth * count)
          let runner = ModelRunner(model, capacity: MachineMemory.physicalByteCount)
          let attention = LayerAttention(
            choice, trainedLength: model.architecture.trainedLength)
          let bench = try SequenceBench(runner, attention, format, depth: depth, count: count)
          let result = BenchResult(
            name: kind, depth: depth, tokens: tokens, sequences: count, policy: choice.name,
            kvType: options.kvType.rawValue, tokensPerSecond: Spread(try measure(bench, count)),
            cache: depth == 0 ? .empty : .random)
          results.append(result)
          if !json { show(result, choice, format) }
        }
      }
    }
    if json {
      try Terminal.printJSON(
        BenchReport(peaks: peaks, device: backend.name, model: name, results: results))
    }
  }

  /// Throws when the depth does not fit into memory: the system would end the program instead.
  private func format(_ choice: AttentionChoice, tokens: Int) throws -> KVFormat {
    try options.kvType.check(headSize: model.architecture.attention.headSize)
    let format = model.architecture.kvFormat(options.kvType, [choice.policy])
    let needed = model.streamedByteCount + format.byteCount(forTokens: tokens)
    guard needed < MachineMemory.physicalByteCount else {
      throw ValidationError(
        "\(sizeText(tokens)) tokens with \"\(choice.name)\" take \(byteText(needed)); this machine has "
          + byteText(MachineMemory.physicalByteCount))
    }
    return format
  }

  private func show(_ result: BenchResult, _ choice: AttentionChoice, _ format: KVFormat) {
    let speed = result.tokensPerSecond
    func text(_ value: Double) -> String { decimal(value, value < 100 ? 1 : 0) }
    let share: String
    switch result.name {
    case .decode:
      // The weights pass once for all sequences.
      let bytes = format.bytesRead(
        byTokenAt: result.depth, choice, trainedLength: model.architecture.trainedLength)
      let floor =
        (Double(model.streamedByteCount) / Double(result.sequences) + Double(bytes))
        / (peaks.readGBs * 1e9)
      share = "\(decimal(floor * speed.mean * 100, 0)) % reads"
    case .prefill:
      let operations = 2 * Double(model.multiplicationCount) * speed.mean / 1e9
      // Weights that are not quantised are few.
      let peak = peaks.products(with: .q8_0, by: backend.kernels)
      share = "\(decimal(operations / peak * 100, 0)) % products"
    }
    let spread = "\(text(speed.median)) (\(text(speed.min)) to \(text(speed.max)))"
    let policy = choice.name.split(separator: "/").last.map(String.init) ?? choice.name
    Terminal.line(
      result.name.rawValue.padded(to: 8) + pad(sizeText(result.depth), 7) + "  "
        + policy.padded(to: 16) + " " + result.kvType.padded(to: 4) + pad("\(result.sequences)", 3)
        + "  " + spread.padded(to: 21) + pad(text(speed.mean), 7) + "  " + share)
  }
}

extension String {
  /// Filled up with blanks behind.
  fileprivate func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
}
