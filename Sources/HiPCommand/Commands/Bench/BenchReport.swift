// SPDX-License-Identifier: Apache-2.0

import HiPCPU
import HiPEvaluation

/// What a benchmark prints with `--json`.
struct BenchReport<Result: Encodable>: Encodable {
  let machine: MachineDescription
  let peaks: MachinePeaks
  /// Name of the file, or the shape, of the model whose steps were measured, if any.
  let model: String?
  let results: [Result]

  init(peaks: MachinePeaks, device: String, model: String? = nil, results: [Result]) {
    machine = MachineDescription(device: device)
    self.peaks = peaks
    self.model = model
    self.results = results
  }

  func printMachine() {
    func whole(_ value: Double) -> String { decimal(value, 0) }
    let narrow =
      peaks.bf16GFLOPs > 0
      ? ", bf16 \(whole(peaks.bf16GFLOPs)), int8 \(whole(peaks.int8GOPs))" : ""
    Terminal.line(
      "machine  reads \(decimal(peaks.readGBs, 1)) GB/s; fp32 \(whole(peaks.fp32GFLOPs))"
        + "\(narrow) GFLOP/s")
  }
}

/// Speeds of one kind of step at one depth.
struct BenchResult: Encodable {
  enum Name: String, Encodable { case decode, prefill }
  /// What stands before the measured tokens.
  enum Cache: String, Encodable { case empty, random }

  let name: Name
  let depth: Int
  let tokens: Int
  /// That were stepped together.
  let sequences: Int
  let policy: String
  let kvType: String
  let tokensPerSecond: Spread
  let cache: Cache
}

/// The least, the middle and the most of several speeds, and the speed of all together.
struct Spread: Encodable {
  let min: Double
  let median: Double
  let max: Double
  /// The speed of as much work at each of them.
  ///
  /// Policies that keep their masks have a median token that computes none.
  let mean: Double

  /// Of one figure at least.
  init(_ values: [Double]) {
    let sorted = values.sorted()
    min = sorted.first ?? 0
    median = sorted.isEmpty ? 0 : sorted[sorted.count / 2]
    max = sorted.last ?? 0
    mean = Double(values.count) / values.reduce(0) { $0 + 1 / $1 }
  }
}
