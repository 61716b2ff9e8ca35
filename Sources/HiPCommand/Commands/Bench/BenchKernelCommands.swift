// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPBench
import HiPCPU
import HiPCUDA
import HiPCompute
import HiPEvaluation
import HiPModelFiles
import HiPModels
import HiPTensors
import InfiniteHiP

/// One kernel's speed, against what the machine can do at best.
struct KernelResult: Encodable {
  let name: String
  let rows: Int
  /// Bytes that have to be read, in 10^9 a second.
  let gigabytesPerSecond: Double
  /// Multiply-adds that have to be done, in 10^9 operations a second.
  let gigaflopsPerSecond: Double
  /// Time at the machine's best over time taken.
  let shareOfRoofline: Double
}

/// Times calls and prints them.
private final class KernelBench {
  let backend: CPUBackend
  let peaks: MachinePeaks
  let json: Bool
  private(set) var results: [KernelResult] = []

  init(_ device: BenchDeviceOptions) throws {
    backend = try device.makeBackend()
    peaks = try backend.measurePeaks()
    json = device.json
    if !json {
      BenchReport(peaks: peaks, device: backend.name, results: results).printMachine()
      Terminal.line("\nkernel                            rows     GB/s  GFLOP/s  of roofline")
    }
  }

  /// The median of several runs of `call`, which reads `bytes` and does `operations`.
  func measure(
    _ name: String, rows: Int, bytes: Int, operations: Double, peak: Double, _ call: () -> Void
  ) {
    let clock = ContinuousClock()
    call()
    var times = [clock.measure(call) / .seconds(1)]
    while times.count < 3 || (times.reduce(0, +) < 0.5 && times.count < 200) {
      times.append(clock.measure(call) / .seconds(1))
    }
    let time = times.sorted()[times.count / 2]
    let floor = max(Double(bytes) / (peaks.readGBs * 1e9), operations / (peak * 1e9))
    let result = KernelResult(
      name: name, rows: rows, gigabytesPerSecond: Double(bytes) / time / 1e9,
      gigaflopsPerSecond: operations / time / 1e9, shareOfRoofline: floor / time)
    results.append(result)
    guard !json else { return }
    Terminal.line(
      name + pad("\(rows)", max(1, 38 - name.count))
        + pad(decimal(result.gigabytesPerSecond, 1), 9)
        + pad(decimal(result.gigaflopsPerSecond, 1), 9)
        + pad(decimal(result.shareOfRoofline * 100, 0) + " %", 13))
  }

  /// Prints the JSON, and fails when a kernel falls below its share in `thresholds`.
  func finish(_ thresholds: String?) throws {
    if json {
      try Terminal.printJSON(BenchReport(peaks: peaks, device: backend.name, results: results))
    }
    guard let thresholds else { return }
    let least: [String: Double]
    do {
      let data = try Data(contentsOf: URL(filePath: thresholds))
      least = try JSONDecoder().decode([String: Double].self, from: data)
    } catch {
      throw FileError(
        path: thresholds, problem: "is no JSON object of kernel names and shares: \(error)")
    }
    var failed = false
    for (name, share) in least.sorted(by: { $0.key < $1.key }) {
      guard let result = results.first(where: { "\($0.name), rows \($0.rows)" == name }) else {
        throw FileError(path: thresholds, problem: "names \"\(name)\", which was not measured")
      }
      if result.shareOfRoofline < share {
        Terminal.note(
          "\(name): \(decimal(result.shareOfRoofline, 2)) of the roofline, below \(share)\n")
        failed = true
      }
    }
    if failed { throw ExitCode.failure }
  }

  func tensor(_ rows: Int, _ columns: Int) throws -> DeviceTensor {
    try backend.makeTensor(
      .values((0..<rows * columns).map { Float(($0 &* 7919) % 1009) / 504 - 1 }),
      element: .float32, rows: rows, columns: columns)
  }
}

struct BenchMatmulCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "matmul",
    abstract: "Products with weights of every type: few rows (decoding) and many (prefill).")

  @Option(help: ArgumentHelp("Rows of a prefill.", valueName: "n"))
  var rows = 512

  @Option(
    help: ArgumentHelp(
      "Fail when a kernel has less of the roofline than this JSON file says.", valueName: "file"))
  var thresholds: String?

  @OptionGroup var device: BenchDeviceOptions

  mutating func validate() throws {
    guard (1...1024).contains(rows) else {
      throw ValidationError("--rows is \(rows); give 1 to 1024")
    }
  }

  func run() throws {
    let bench = try KernelBench(device)
    let (outputs, width) = (16384, 2048)
    for element in ElementType.allCases {
      let weights = RandomWeights(.llama1B, element: element)
      let weight = try weights.weight(named: element.rawValue, rows: outputs, columns: width)
      let tensor = try bench.backend.makeTensor(
        .mapped(weight.bytes), element: element, rows: outputs, columns: width)
      for rows in [1, 4, rows] {
        let call = MatmulCall(
          input: try bench.tensor(rows, width), weight: tensor,
          output: try bench.tensor(rows, outputs), decodeRows: rows <= 4 ? rows : 0)
        bench.measure(
          "\(element.rawValue) \(outputs) x \(width)", rows: rows,
          bytes: outputs * element.byteCount(of: width),
          operations: 2 * Double(rows * outputs * width),
          peak: bench.peaks.products(with: element, by: bench.backend.kernels)
        ) { bench.backend.multiply([call]) }
      }
    }
    _ = try bench.backend.submit()
    try bench.finish(thresholds)
  }
}

struct BenchAttentionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attention",
    abstract: "Attention and selection of one layer, of one query and of a block of them.",
    discussion: """
      On a GPU (--device cuda) a fixed list is measured: prefill and decoding of 32 query heads and 8 key-value \
      heads of 128 elements, to 3M keys, which take 26 GB of its memory.
      """)

  @Option(help: ArgumentHelp("Keys that stand before. (default: 32K)", valueName: "n"))
  var depth: TokenSize?

  @Option(
    help: ArgumentHelp(
      "Policies, separated by commas. (default: dense,streaming,infinitehip,infinitehip-3k)",
      valueName: "list"))
  var attention: String?

  @Option(help: ArgumentHelp("How keys and values are kept.", valueName: "type"))
  var kvType = KVType.f16

  @Option(help: ArgumentHelp("Queries of a prefill. (default: 256)", valueName: "n"))
  var rows: Int?

  @Option(
    help: ArgumentHelp(
      "Fail when a kernel has less of the roofline than this JSON file says.", valueName: "file"))
  var thresholds: String?

  @OptionGroup(title: "Device") var place: DeviceOptions
  @OptionGroup var device: BenchDeviceOptions

  mutating func validate() throws {
    if let rows, !(1...1024).contains(rows) {
      throw ValidationError("--rows is \(rows); give 1 to 1024")
    }
    guard case .cuda = place.device else { return }
    guard kvType == .f16 || kvType == .bf16 else {
      throw ValidationError(
        "--kv-type is \(kvType.rawValue); on a GPU keys and values of 16 bits are measured: f16 or bf16"
      )
    }
    for (name, isGiven) in [
      ("--depth", depth != nil), ("--attention", attention != nil), ("--rows", rows != nil),
      ("--thresholds", thresholds != nil), ("--threads", device.threads != nil),
      ("--kernels", device.kernels != nil),
    ] where isGiven {
      throw ValidationError(
        "\(name) is for the CPU; on a GPU a fixed list is measured: leave it out")
    }
  }

  func run() throws {
    switch place.device {
    case .cpu: try runOnCPU()
    case .cuda(let number): try run(on: place.makeCUDA(number))
    }
  }

  private func run(on backend: CUDABackend) throws {
    var results: [CUDAAttentionBench.Result] = []
    if !device.json {
      Terminal.line("\(backend.name)\n")
      Terminal.line(
        "work                                    queries     keys       us    GB/s  TFLOP/s")
    }
    try CUDAAttentionBench(backend: backend, type: kvType).run { result in
      results.append(result)
      guard !device.json else { return }
      let name = "\(result.name), \(result.policy)"
      Terminal.line(
        name + pad("\(result.queries)", max(1, 47 - name.count))
          + pad("\(result.keys.reduce(0, +))", 9) + pad(decimal(result.microseconds, 1), 9)
          + pad(decimal(result.megabytes / result.microseconds * 1e3, 0), 8)
          + pad(decimal(result.gigaflops / result.microseconds * 1e3, 1), 9))
    }
    guard device.json else { return }
    try Terminal.printJSON(
      CUDABenchReport(device: backend.name, kvType: kvType.rawValue, results: results))
  }

  private func runOnCPU() throws {
    let attention = attention ?? "dense,streaming,infinitehip,infinitehip-3k"
    let rows = rows ?? 256
    let bench = try KernelBench(device)
    let shape = ModelShape.llama1B.architecture
    let depth = depth?.count ?? 32768
    for name in attention.split(separator: ",") {
      let choice = try AttentionArgument(name: String(name)).choice()
      let format = KVFormat(
        layerCount: 1, shape: shape.attention, element: kvType.element,
        sketches: shape.kvFormat(kvType, [choice.policy]).sketches)
      let cache = SequenceCache(
        store: bench.backend.makeStore(format),
        blocks: SharedBlocks(capacity: MachineMemory.physicalByteCount))
      try cache.appendRandom(depth, seed: 1, on: bench.backend)
      for rows in [1, rows] where rows < depth {
        let width = shape.attention.heads * shape.attention.headSize
        let input = AttentionInput(
          queries: try bench.tensor(rows, width), shape: shape.attention, start: depth - rows,
          table: cache.table, rotary: shape.layers[0].rotary?.embedding,
          trainedLength: shape.trainedLength)
        let output = try bench.tensor(rows, width)
        let state = cache.selection
        let reach: AttendCall.Reach
        var keys = depth
        switch choice.policy {
        case .dense, .stretched: reach = .dense
        case .streaming(let window):
          reach = .streaming(window)
          keys = min(depth, window.sink + window.window)
        case .heavyHitters:
          throw ValidationError("\"\(choice.name)\" keeps no cache of a given depth; leave it out")
        case .hierarchical(let whole):
          let pruning = rows == 1 ? whole.fine : whole
          keys = min(depth, pruning.budget)
          let traffic = format.bytesRead(
            byTokenAt: depth, choice, trainedLength: 0, stages: .all)
          bench.measure(
            "\(choice.name) select", rows: rows,
            bytes: rows == 1
              ? traffic - keys * shape.attention.kvHeads * 2 * format.rowByteCount : 0,
            operations: 0, peak: bench.peaks.fp32GFLOPs
          ) {
            bench.backend.select(
              SelectCall(
                layer: 0, batch: [.init(input: input, pruning: pruning, state: state)]))
          }
          reach = .selected(pruning, state)
        }
        bench.measure(
          "\(choice.name) attend", rows: rows,
          bytes: rows == 1 ? keys * shape.attention.kvHeads * 2 * format.rowByteCount : 0,
          operations: 4 * Double(rows * keys * width),
          peak: max(bench.peaks.fp32GFLOPs, bench.peaks.bf16GFLOPs)
        ) {
          bench.backend.attend(
            AttendCall(layer: 0, batch: [.init(input: input, reach: reach, output: output)]))
        }
      }
    }
    _ = try bench.backend.submit()
    try bench.finish(thresholds)
  }
}
